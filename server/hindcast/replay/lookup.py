"""One kept lookup, asked again as of then and as of now."""

from dataclasses import replace
from pathlib import Path

from hindcast.catalog import Catalog, Repo, is_same_definition, load_catalog, read_repo
from hindcast.errors import CatalogError, HindcastError, RequestError
from hindcast.lookups.receipts import Answered as ReceiptColumn
from hindcast.lookups.receipts import Receipt, by_either_id
from hindcast.replay.comparison import Comparison, differing_inputs, served_answer
from hindcast.replay.history import History
from hindcast.replay.offline import OfflineStore
from hindcast.replay.online import ask_server, ask_store
from hindcast.replay.questions import asked_of, source_of
from hindcast.replay.result import Cell, Reason, Replay, Verdict
from hindcast.replay.verdicts import why_now
from hindcast.settings import log_directory_of

TIMEOUT_SECONDS = 10.0


def replay(
    repo_root: Path,
    lookup: str,
    *,
    log_directory: Path | None = None,
    server: str | None = None,
    asks_now: bool = True,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Replay:
    """Ask a kept lookup's question again: of the offline store as of then, by what was known then, and of the online store as of now.

    Args:
        repo_root: the Feast repo; its sources are read, and its online store or a server of it is asked.
        lookup: a lookup id, or the request id of the caller; of several lookups with that one, the newest.
        log_directory: of the server that answered; None: where one of this repo logs unless it is told otherwise.
        server: HOST:PORT of a running server to ask as of now; None: the online store itself, by this process.
        asks_now: False: only as of then.
        timeout_seconds: for the answer of now.
    Raises:
        RepoError: it is no Feast repo.
        UnknownName: no lookup is known by that.
        InvalidArgument: nothing was served, or no definitions are there by which it can be asked again.
        SourceError: a source changed while it was read; one that cannot be read at all is the verdict of its values.
        StoredDataError: the record, or a part of the log that may have it, cannot be read.
        StoreUnavailable: the server did not answer, or the disk did not take what was spilled. An online store that does not
            answer is a note.
    """
    repo = read_repo(repo_root)
    directory = log_directory or log_directory_of(repo_root)
    receipt = by_either_id(directory, lookup).or_fail(lookup)
    present, problem = present_catalog(repo)
    asked = asked_of(receipt, present)
    store, history = OfflineStore(repo, present), History(repo, directory)
    (compared,) = Comparison(store, history).compare([asked], with_equal=True)
    notes = [asked.note] if asked.note else []
    notes += [*store.notes, *history.notes]
    found = Replay(
        receipt=receipt,
        cells=compared.cells,
        definitions=asked.catalog.version,
        definitions_in_force=asked.in_force,
        notes=notes,
    )
    if not asks_now:
        return found
    if present is None:
        return replace(found, notes=[*notes, f"not asked as of now: {problem}"])
    return _with_now(found, repo, present, server=server, timeout_seconds=timeout_seconds)


def present_catalog(repo: Repo) -> tuple[Catalog | None, str]:
    """The definitions of now, or why there are none."""
    try:
        return load_catalog(repo), ""
    except CatalogError as error:
        return None, str(error)


def _with_now(found: Replay, repo: Repo, present: Catalog, *, server: str | None, timeout_seconds: float) -> Replay:
    record = found.receipt.record
    try:
        if server is None:
            now = ask_store(record, repo, present, timeout_seconds=timeout_seconds)
        else:
            now = ask_server(record, server, present, timeout_seconds=timeout_seconds)
    except RequestError as error:
        cells = [replace(cell, now_verdict=Verdict(Reason.DEFINITION_CHANGED)) for cell in found.cells]
        note = f"as of now the same question is refused: {error}"
        return replace(found, cells=cells, now_asked=True, now_definitions=present.version, notes=[*found.notes, note])
    except HindcastError as error:
        if server is not None:
            raise
        # What was served then can be judged all the same.
        return replace(found, notes=[*found.notes, f"not asked as of now: {error}"])
    columns = {column.name: column for column in now.columns}
    changed = _changed_views(found.receipt.catalog, present)
    cells = [_cell_now(cell, found.receipt, now, columns.get(cell.name), changed) for cell in found.cells]
    return replace(found, cells=cells, now_asked=True, now_definitions=now.record.catalog_version)


def _cell_now(cell: Cell, before: Receipt, now: Receipt, column: ReceiptColumn | None, changed: frozenset[str]) -> Cell:
    if column is None:
        return replace(cell, now_verdict=Verdict(Reason.DEFINITION_CHANGED, "it is not in the answer of now"))
    answered = served_answer(now, column, cell.row)
    is_computed = cell.served.event_micros is None and cell.view in before.record.computed
    differing = None
    if is_computed and cell.view in now.record.computed:
        inputs = before.record.computed[cell.view], now.record.computed[cell.view]
        differing = differing_inputs(*inputs, rows=before.entity_rows)[cell.row]
    view = _view_of(cell, before)
    verdict = why_now(cell.served, answered, is_changed=view in changed, is_computed=is_computed, differing=differing)
    return replace(cell, now=answered, now_verdict=verdict)


def _view_of(cell: Cell, receipt: Receipt) -> str:
    """The catalog's name of a cell's view, which the service may call by another."""
    for projection, _ in receipt.projections():
        if projection.name == cell.view:
            return projection.view
    return cell.view


def _changed_views(before: Catalog | None, present: Catalog) -> frozenset[str]:
    """Views whose definitions or sources are others now; none where those of then are not kept."""
    if before is None or before.version == present.version:
        return frozenset()
    names = {*before.views, *before.on_demand_views}
    return frozenset(
        name
        for name in names
        if not is_same_definition(
            before.views.get(name) or before.on_demand_views.get(name),
            present.views.get(name) or present.on_demand_views.get(name),
        )
        or source_of(before, name) != source_of(present, name)
    )
