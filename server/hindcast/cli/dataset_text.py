"""What `hindcast dataset` prints for people."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from hindcast.clock import from_micros

if TYPE_CHECKING:
    from pathlib import Path

    from hindcast.datasets import Diff, Rebuild, TrainingSet, Verification
    from hindcast.datasets.causes import Cell, Change
    from hindcast.datasets.definitions import OnDemandRecord, ViewRecord
    from hindcast.datasets.dvc import Pipeline
    from hindcast.datasets.manifest import KnownAt, Manifest
    from hindcast.datasets.statistics import ColumnStatistics

_ID_DIGITS = 12
SPLIT = "__split"
_COLUMNS_MAX = 8
_WORD_MAX = 40
_GOOD, _BAD, _MEH = "green", "red", "yellow"


def built_text(one: "TrainingSet") -> str:
    """What a build says when it is done."""
    manifest = one.manifest
    lines = [
        _done(f"built {one.ref}", f"{one.rows:,} rows, {len(manifest.columns)} columns"),
        *_pairs(
            [
                ("id", one.id),
                ("digest", one.digest),
                ("known at", known_at_text(manifest.known_at)),
                ("splits", _splits_text(one.splits)),
                ("leaks", _leaks_text(manifest)),
                *_lookup_pairs(manifest),
                ("path", str(one.path)),
            ]
        ),
    ]
    return "\n".join(lines)


def dvc_text(made: "Pipeline", file: "Path", *, is_changed: bool) -> str:
    """What was written into a dvc.yaml."""
    definitions, build = made.stages
    what = f"{'wrote' if is_changed else 'nothing to change in'} {file}"
    lines = [
        _done(what, f"stages {definitions.name} and {build.name}"),
        *_pairs([("reads", ", ".join(build.deps)), ("makes", build.outs[0]), ("run it by", f"dvc repro {build.name}")]),
    ]
    lines += [click.style(f"DVC does not see changes of {one}", fg=_MEH) for one in made.unwatched]
    return "\n".join(lines)


def list_text(found: Sequence["TrainingSet"]) -> str:
    """A table of sets."""
    head = ("set", "rows", "columns", "known at", "features", "id")
    rows = [
        (
            one.ref,
            f"{one.rows:,}",
            str(len(one.manifest.columns)),
            known_at_text(one.manifest.known_at),
            _few(one.manifest.features),
            one.id.removeprefix("sha256:")[:_ID_DIGITS],
        )
        for one in found
    ]
    return _table(head, rows, numbers={1, 2})


def show_text(one: "TrainingSet") -> str:
    """All of a set that people ask about."""
    manifest = one.manifest
    built = datetime.fromtimestamp((one.path / "manifest.json").stat().st_mtime, UTC)
    git = manifest.git
    parts = [
        click.style(one.ref, bold=True),
        *_pairs(
            [
                ("id", one.id),
                ("digest", one.digest),
                ("built", f"{built:%Y-%m-%d %H:%M:%S} UTC"),
                ("rows", f"{one.rows:,}"),
                ("format", "" if manifest.delta_version is None else f"Delta table, version {manifest.delta_version}"),
                ("features", _few(manifest.features)),
                ("known at", known_at_text(manifest.known_at)),
                ("entity frame", _frame_text(manifest)),
                *_lookup_pairs(manifest),
                ("splits", _splits_text(one.splits)),
                (
                    "git",
                    ""
                    if git is None
                    else f"{git.commit[:_ID_DIGITS]}{', with changes that are not committed' if git.is_dirty else ''}",
                ),
                ("versions", ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())),
                ("path", str(one.path)),
            ]
        ),
        "",
        click.style("columns", bold=True),
        _indented(
            _table(
                ("column", "type", "from", "nulls", "distinct", "least", "middle", "most"),
                _column_rows(manifest),
                numbers=set(range(3, 8)),
            )
        ),
        "",
        click.style("sources", bold=True),
        *(
            f"  {source.path}{'' if source.version is None else f'  version {source.version}'}  "
            f"{len(source.files):,} {'file' if len(source.files) == 1 else 'files'}, {sum(file.bytes for file in source.files):,} bytes"
            for source in manifest.sources
        ),
        "",
        click.style("leaks", bold=True),
        *(f"  {line}" for line in _leak_lines(manifest)),
    ]
    return "\n".join(parts)


def rebuild_text(report: "Rebuild") -> str:
    """What came of a rebuild."""
    if report.identical:
        proof = "the same rows, and the same bytes in every file" if report.files_identical else "the same rows"
        lines = [_done(f"{report.ref} is identical", f"{proof} ({report.rows:,} rows)"), f"  digest  {report.digest}"]
        if report.changes:
            lines += [
                "",
                click.style("changed, without effect", fg=_MEH),
                *(f"  {_change_line(one)}" for one in report.changes),
            ]
        return "\n".join(lines)
    first = report.first_change
    lines = [click.style(f"✗ {report.ref} is not the same any more", fg=_BAD, bold=True)]
    if first is not None:
        lines.append(f"  first change: {click.style(_change_line(first), bold=True)}")
    if report.trouble:
        lines.append(f"  it could not be made again: {report.trouble}")
    for change in report.changes:
        if change.has_effect:
            lines += ["", click.style(_change_line(change), bold=True), *_effect_lines(change)]
    silent = [change for change in report.changes if not change.has_effect and change is not first]
    if silent:
        lines += ["", click.style("changed, without effect", fg=_MEH), *(f"  {_change_line(one)}" for one in silent)]
    if report.digest:
        lines += ["", f"  was     {report.expected}", f"  is      {report.digest}"]
    if not report.as_recorded:
        lines += [
            "",
            f"`hindcast dataset rebuild {report.ref} --as-recorded` uses the manifest's definitions and files.",
        ]
    return "\n".join(lines)


def verify_text(found: "Verification") -> str:
    """What came of a verification."""
    if found.intact:
        signed = f"\n  signed by  {found.signed_by}" if found.signed_by else ""
        return _done(f"{found.ref} is intact", f"all files are what its manifest says\n  id  {found.id}{signed}")
    return "\n".join(
        [click.style(f"✗ {found.ref} was changed", fg=_BAD, bold=True), *(f"  {problem}" for problem in found.problems)]
    )


def diff_text(found: "Diff") -> str:
    """What differs between two sets."""
    if found.identical:
        return _done(f"{found.before} and {found.after} are identical", f"{found.rows_both:,} rows")
    lines = [click.style(f"{found.before} → {found.after}", bold=True)]
    lines += _pairs(
        [
            ("rows", f"{found.rows_before:,} → {found.rows_after:,}, {found.rows_both:,} in both"),
            ("told apart by", ", ".join(found.keys)),
            ("columns added", ", ".join(found.added)),
            ("columns gone", ", ".join(found.dropped)),
            ("other types", ", ".join(f"{one.column} {one.before} → {one.after}" for one in found.retyped)),
        ]
    )
    for title, count, some in (
        (f"only in {found.before}", found.rows_before - found.rows_both, found.only_before),
        (f"only in {found.after}", found.rows_after - found.rows_both, found.only_after),
    ):
        if count:
            lines += ["", click.style(f"{title}: {count:,} rows", bold=True), *(f"  {_keys_text(row)}" for row in some)]
            lines += ["  …"] if count > len(some) else []
    if found.columns:
        lines += ["", click.style("cells that differ", bold=True)]
        for column in found.columns:
            lines.append(f"  {column.column}: {column.rows:,} ({_reasons_text(column.reasons)})")
            lines += [f"    {_cell_text(cell)}" for cell in column.cells[:2]]
    if found.inputs:
        lines += [
            "",
            click.style("made of other inputs", bold=True),
            *(f"  {_change_line(one)}" for one in found.inputs),
        ]
    return "\n".join(lines)


def known_at_text(known_at: "KnownAt") -> str:
    """What could be known, in a few words."""
    if known_at.micros is not None:
        return f"{from_micros(known_at.micros):%Y-%m-%d %H:%M:%S} UTC"
    return "each row's own time" if known_at.kind == "own" else f"column {known_at.column}"


def _change_line(change: "Change") -> str:
    said = _what_changed(change)
    how = "imported" if change.kind == "module" else "read"
    return f"{said} ({how} by {', '.join(change.views)})" if change.views else said


def _what_changed(change: "Change") -> str:
    kind = {
        "source": "source file",
        "entity_frame": "entity frame",
        "transform": "on-demand view",
        "log": "log of lookups",
        "known_at": "what could be known",
    }.get(change.kind, change.kind)
    if change.what == "renamed":
        return f"{kind} {change.before} was renamed to {change.after}"
    if change.kind == "erasure":
        return f"somebody was erased from the log of lookups ({change.name})"
    if change.kind in {"source", "module", "entity_frame", "log", "labels"}:
        is_done = change.what in {"changed", "removed", "appended", "added", "dropped"}
        return f"{kind} {change.name} {'was ' if is_done else ''}{change.what}"
    if change.kind == "transform":
        return f"{kind} {change.name}: its {change.what} was edited"
    if change.kind == "unknown":
        whose = (
            "rows: "
            if change.name == "rows"
            else f"on-demand view {change.name}: its function, or code that it imports, is "
        )
        return f"{whose}{change.what}, and no input is another one"
    arrow = f" {_short(change.before)} → {_short(change.after)}" if change.before or change.after else ""
    subject = kind if change.kind == "known_at" else f"{kind} {change.name}: {change.what}"
    return f"{subject}{arrow}"


def _effect_lines(change: "Change") -> list[str]:
    columns = list(change.columns.items())
    shown = ", ".join(f"{name} {rows:,}" for name, rows in columns[:_COLUMNS_MAX])
    more = f" and {len(columns) - _COLUMNS_MAX} more" if len(columns) > _COLUMNS_MAX else ""
    lines = [f"  {change.rows:,} {'row' if change.rows == 1 else 'rows'}: {_reasons_text(change.reasons)}"]
    if columns:
        lines.append(f"  in {shown}{more}")
    return lines + [f"    {_cell_text(cell)}" for cell in change.cells]


def _cell_text(cell: "Cell") -> str:
    was, now = (
        click.style(_short("null" if text is None else text), fg=color)
        for text, color in ((cell.before, _BAD), (cell.after, _GOOD))
    )
    return f"row {cell.row:,} ({_keys_text(cell.keys)})  {cell.column}: {was} → {now}  {cell.reason}"


def _keys_text(keys: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}={'null' if value is None else _short(value)}" for name, value in keys.items())


def _reasons_text(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {'cell' if count == 1 else 'cells'} {reason}" for reason, count in reasons.items())


def _short(text: str) -> str:
    return text if len(text) <= _WORD_MAX else f"{text[: _WORD_MAX - 1]}…"


def _few(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} features"


def _frame_text(manifest: "Manifest") -> str:
    frame = manifest.frame
    what = {
        "path": frame.text,
        "sql": f"SQL: {frame.text}",
        "keys": f"all keys, {frame.text}",
        "rows": "rows of the caller",
        "lookups": f"lookups of {frame.text}",
    }[frame.form]
    return f"{what}  ({frame.rows:,} rows, {len(frame.columns)} columns)"


def _lookup_pairs(manifest: "Manifest") -> list[tuple[str, str]]:
    """What a set of lookups was made of, and what is not there."""
    record = manifest.lookups
    if record is None:
        return []
    log, labels = record.log, record.labels
    since = "the beginning" if record.since_micros is None else f"{from_micros(record.since_micros):%Y-%m-%d %H:%M:%S}"
    lookups = [f"{log.answered:,} answered", f"{log.failed:,} failed"]
    lookups += [f"{log.erased:,} erased"] if log.erased else []
    lookups += [f"{log.unsealed:,} not sealed and not read"] if log.unsealed else []
    rates = dict.fromkeys(one.sample_rate for one in log.catalogs if float(one.sample_rate) < 1)
    lost = sum(one.lookups or 0 for one in log.losses)
    more = " at least" if any(one.lookups is None for one in log.losses) else ""
    joined = [f"{labels.used:,} of {labels.frame.rows:,} by {labels.on.replace('_', ' ')}"]
    joined += [
        f"{count:,} {what}"
        for count, what in (
            (labels.unknown, "fit no lookup"),
            (labels.superseded, "lost to another label"),
            (labels.without_key, "without a key"),
        )
        if count
    ]
    kept = "kept" if labels.keeps_unlabeled else "left out"
    filled = [f"{one.column} {one.filled:,}" for one in record.features if one.filled]
    lacking = [f"{one.column} {one.lacking:,}" for one in record.features if one.lacking]
    return [
        ("served", f"{since} to {from_micros(record.until_micros):%Y-%m-%d %H:%M:%S} UTC"),
        ("lookups", f"{', '.join(lookups)}; {log.rows:,} rows"),
        ("labels", ", ".join(joined)),
        ("unlabeled", f"{labels.unlabeled:,} rows, {kept}" if labels.unlabeled else ""),
        ("open windows", f"{labels.open_windows:,} rows, whose label may yet come" if labels.open_windows else ""),
        ("read as of then", ", ".join(filled)),
        ("not served", ", ".join(lacking)),
        (
            "sampled",
            f"the log has a share of {', '.join(rates)} of all keys, and all lookups with a miss" if rates else "",
        ),
        (
            "missing",
            click.style(
                f"{lost:,} lookups of any service{more}: {', '.join(dict.fromkeys(one.reason for one in log.losses))}",
                fg=_MEH,
            )
            if log.losses
            else "",
        ),
    ]


def _splits_text(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {rows:,}" for name, rows in splits.items())


def _leaks_text(manifest: "Manifest") -> str:
    leaking = [leak for leak in manifest.leaks if leak.rows]
    if not leaking:
        return "none"
    said = ", ".join(f"{leak.view} {leak.rows:,} of {leak.found:,} rows" for leak in leaking)
    return click.style(f"{said} take a value that was not known at their time", fg=_MEH)


def _leak_lines(manifest: "Manifest") -> Iterable[str]:
    from hindcast.lookups.receipt_text import age  # noqa: PLC0415 - loads protobuf messages, which --help does not need

    for leak in manifest.leaks:
        if leak.rows:
            worst = f", {age(leak.worst_micros / 1_000_000)} at worst"
            yield click.style(
                f"{leak.view}: {leak.rows:,} of {leak.found:,} rows take a value that was created after their time{worst}",
                fg=_MEH,
            )
        else:
            yield f"{leak.view}: none of {leak.found:,} rows"


def _column_rows(manifest: "Manifest") -> list[tuple[str, ...]]:
    known = {one.name: one for one in manifest.statistics}
    rows = []
    for name, kind, origin in _origin_rows(manifest):
        one = known.get(name)
        if one is None:
            rows.append((name, kind, origin, *[""] * 5))
            continue
        distinct = "" if one.distinct is None else _distinct(one.distinct, one)
        is_measured = one.kind in {"number", "instant"}
        ends = (one.minimum, dict(one.quantiles).get("0.5"), one.maximum) if is_measured else (None,) * 3
        share = f"{one.nulls / one.rows:.0%}" if one.nulls else "0"
        rows.append((name, kind, origin, share, distinct, *(_short(_rounded(text, one.kind)) for text in ends)))
    return rows


def _distinct(found: int, column: "ColumnStatistics") -> str:
    """How many values; an estimate is at most as many as there are rows with one."""
    return f"{found:,}" if column.distinct_is_exact else f"~{min(found, column.rows - column.nulls):,}"


def _rounded(text: str | None, kind: str) -> str:
    """A number in few digits, an instant to the second."""
    if text is None:
        return ""
    if kind == "instant":
        return text[:19]
    return text if len(text) <= 10 else f"{float(text):.6g}"


def _origin_rows(manifest: "Manifest") -> list[tuple[str, str, str]]:
    lookups = manifest.lookups
    origin = dict.fromkeys(manifest.frame.columns, "entity frame" if lookups is None else "lookups")
    if lookups is not None:
        origin |= dict.fromkeys((one.name for one in manifest.columns if one.name != SPLIT), "lookups")
        origin |= dict.fromkeys(lookups.labels.frame.columns, "labels")
        origin |= {one.column: f"{one.view}:{one.feature}" for one in lookups.features}
    views: list[ViewRecord | OnDemandRecord] = [*manifest.definitions.views, *manifest.definitions.on_demand]
    for view in views:
        origin |= {feature.column: f"{view.name}:{feature.name}" for feature in view.features}
    return [(column.name, column.type, origin.get(column.name, "splits")) for column in manifest.columns]


def _done(what: str, more: str) -> str:
    return f"{click.style(f'✓ {what}', fg=_GOOD, bold=True)}: {more}"


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Names to the left; what is empty is left out."""
    there = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in there), default=0)
    return [f"  {name.ljust(width)}  {value}" for name, value in there]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: set[int] | None = None) -> str:
    """Words to the left, numbers to the right, two spaces between."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if at in (numbers or ()) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines[0] = click.style(lines[0], bold=True)
    return "\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
