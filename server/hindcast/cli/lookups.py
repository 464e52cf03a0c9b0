"""`hindcast receipt` and `hindcast lookups`: what was answered, and whether all of it is still known."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hindcast.cli import options
from hindcast.cli.exits import Exit
from hindcast.cli.seal import add_commands
from hindcast.clock import from_micros

if TYPE_CHECKING:
    from hindcast.lookups.gap_report import WriterReport
    from hindcast.lookups.listing import DamagedTable
    from hindcast.lookups.reading import Damage, Summary

_ROWS = 10


def _log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return options.repo(options.log_directory(options.output(command)))


def _tags_of(_context: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE each; a value may hold `=` itself."""
    tags = {}
    for text in texts:
        name, equals, content = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        tags[name] = content
    return tags


def _codes_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> frozenset[int] | None:
    """Codes of google.rpc by name, or `failed` for all but OK."""
    if text is None:
        return None
    from google.rpc import code_pb2  # noqa: PLC0415 - for this option only

    codes = dict(code_pb2.Code.items())
    if text.upper() == "FAILED":
        return frozenset(number for number in codes.values() if number)
    if text.upper() not in codes:
        raise click.BadParameter(f"{text!r} is no status; write OK, failed, or a code such as NOT_FOUND")
    return frozenset([codes[text.upper()]])


@click.command()
@click.argument("receipt_id", metavar="ID", callback=options.not_empty)
@_log_options
@click.option(
    "--rows", "rows_max", type=click.IntRange(0), default=_ROWS, show_default=True, help="Shown as text; 0 is all."
)
def receipt(receipt_id: str, repo_root: Path, log_directory: Path | None, output: str, rows_max: int) -> None:
    """Show what one lookup asked and was answered, value by value.

    ID is the lookup id of an answer, or the request id that its caller sent; of several lookups with that one, the newest is shown
    (`hindcast lookups ls --request-id` lists them). JSON is without loss: docs/operations.md says how values look. Times are UTC.
    """
    from hindcast.lookups.receipt_json import receipt_json  # noqa: PLC0415 - protobuf, which most commands do not need
    from hindcast.lookups.receipt_text import receipt_text  # noqa: PLC0415
    from hindcast.lookups.receipts import by_either_id  # noqa: PLC0415

    search = by_either_id(options.log_directory_in(repo_root, log_directory), receipt_id)
    _tell(search.damage)
    found = search.or_fail(receipt_id)
    click.echo(json.dumps(receipt_json(found)) if output == "json" else receipt_text(found, rows_max=rows_max or None))


@click.group()
def lookups() -> None:
    """The log of lookups: what was asked of the server, and how it ended."""


@lookups.command("ls")
@_log_options
@click.option("--service", metavar="NAME", help="Only lookups of this feature service.")
@options.since
@options.until
@click.option(
    "--tag",
    "tags",
    callback=_tags_of,
    multiple=True,
    metavar="NAME=VALUE",
    help="Only those with this tag; may be repeated.",
)
@click.option(
    "--status", "codes", callback=_codes_of, metavar="STATUS", help="OK, failed, or a code such as NOT_FOUND."
)
@click.option("--request-id", metavar="ID", help="Only those to which their caller gave this id.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
def ls(
    repo_root: Path,
    log_directory: Path | None,
    output: str,
    service: str | None,
    since: int | None,
    until: int | None,
    tags: dict[str, str],
    codes: frozenset[int] | None,
    request_id: str | None,
    limit: int,
) -> None:
    """List lookups, the newest first. Times are UTC."""
    from hindcast.lookups.known_names import check_service  # noqa: PLC0415 - protobuf
    from hindcast.lookups.listing import newest_lookups  # noqa: PLC0415
    from hindcast.lookups.reading import Matching  # noqa: PLC0415
    from hindcast.lookups.receipt_json import summary_json  # noqa: PLC0415

    options.check_range(since, until)
    directory = options.log_directory_in(repo_root, log_directory)
    wanted = Matching(
        since_micros=since,
        until_micros=until,
        request_id=request_id,
        service=service,
        tags=tags,
        codes=codes,
    )
    listed = newest_lookups(directory, wanted, limit=limit)
    found = listed.summaries
    _tell(listed.damage)
    if service and not found and not listed.damage:
        check_service(directory, service, repo_root=repo_root)
    if output == "json":
        click.echo(json.dumps([summary_json(summary) for summary in found]))
    elif found:
        click.echo("\n".join(_lookup_lines(found)))
    else:
        click.echo(
            f"no such lookups in {directory}; `hindcast serve` logs them there, unless --log-dir or --log-mode says otherwise"
        )


@lookups.command("check")
@_log_options
@click.pass_context
def check(context: click.Context, repo_root: Path, log_directory: Path | None, output: str) -> None:
    """Read every record of the log, and say per writer what is there and what is missing.

    A running server may go on meanwhile. Exit codes: 0 nothing is missing, 3 something is missing, torn or damaged, 1 it failed.
    """
    from hindcast.lookups.directory import LogDirectory  # noqa: PLC0415
    from hindcast.lookups.gap_report import gap_report  # noqa: PLC0415

    directory = options.log_directory_in(repo_root, log_directory)
    reports = gap_report(directory)
    if log_directory is not None and not reports and not LogDirectory(directory).segments.is_dir():
        # That nothing is missing there would be said of any folder.
        raise click.BadParameter(f"{directory} is no log of lookups; give the --log-dir of `hindcast serve`")
    is_whole = all(report.is_whole for report in reports)
    if output == "json":
        click.echo(json.dumps({"whole": is_whole, "writers": [_report_json(report) for report in reports]}))
    elif reports:
        click.echo("\n".join([*_report_lines(reports), "", _verdict(reports)]))
    else:
        click.echo(f"no lookups were ever logged in {directory}")
    if not is_whole:
        context.exit(Exit.DIFFERS)


def _tell(damage: "Sequence[Damage | DamagedTable]") -> None:
    for place in damage:
        click.echo(f"hindcast: {place}; `hindcast lookups check` says what is missing", err=True)


def _lookup_lines(found: "Sequence[Summary]") -> list[str]:
    from uuid import UUID  # noqa: PLC0415 - beside its only use

    from hindcast.lookups.receipt_json import code_name  # noqa: PLC0415

    lines = [("lookup", "served at", "status", "rows", "asked for", "request id", "tags")]
    for summary in found:
        asked = summary.service or _shortened(summary.refs)
        lines.append(
            (
                str(UUID(bytes=summary.lookup_id)),
                _instant(summary.served_at_micros),
                code_name(summary.code),
                "" if summary.entity_rows is None else f"{summary.entity_rows:,}",
                asked,
                summary.request_id,
                " ".join(f"{name}={value}" for name, value in sorted(summary.tags.items())),
            )
        )
    return _aligned(lines, right={3})


def _shortened(refs: Sequence[str]) -> str:
    return refs[0] + (f" and {len(refs) - 1} more" if len(refs) > 1 else "") if refs else ""


def _aligned(lines: Sequence[Sequence[str]], *, right: set[int]) -> list[str]:
    """Words to the left, numbers to the right, two spaces between; a column without content is left out."""
    kept = [at for at, _ in enumerate(lines[0]) if any(line[at] for line in lines[1:])]
    widths = {at: max(len(line[at]) for line in lines) for at in kept}
    return [
        "  ".join(line[at].rjust(widths[at]) if at in right else line[at].ljust(widths[at]) for at in kept).rstrip()
        for line in lines
    ]


def _report_lines(reports: "Sequence[WriterReport]") -> list[str]:
    lines = [
        (
            "writer",
            "began",
            "state",
            "segments",
            "first",
            "last",
            "in segments",
            "sealed",
            "erased",
            "dropped",
            "lost",
            "synced",
        )
    ]
    lines += [
        (
            str(report.writer),
            _instant(report.writer.epoch),
            "writing" if report.lives else "ended",
            f"{report.segments:,}",
            f"{report.first_sequence:,}",
            f"{report.last_sequence:,}",
            f"{report.in_segments:,}",
            f"{report.sealed:,}" if report.sealed else "",
            f"{report.erased:,}" if report.erased else "",
            f"{report.dropped:,}" if report.dropped else "",
            f"{report.lost:,}",
            f"{report.synced:,}",
        )
        for report in reports
    ]
    told = []
    for report in reports:
        told += [
            f"{report.writer}: {f'{part.first_sequence:,} to {part.last_sequence:,}' if part.last_sequence else f'from {part.first_sequence:,} on, perhaps'} missing: "
            f"{_REASONS[part.reason]}"
            for part in report.missing
        ]
        told += [f"{report.writer}: {place}" for place in (*report.torn, *report.damage)]
    return [*_aligned(lines, right=set(range(3, 12))), *([""] if told else []), *told]


_REASONS = {
    "write_failed": "the log could not be written",
    "overflow": "best_effort had no more room in memory",
    "sync_failed": "the disk did not take them",
    "killed": "the process ended with them in its memory",
    "torn": "the file ended in the midst of a record",
    "damaged": "the file was damaged after it was synced",
    "too_large": "they were larger than the log takes",
    "untold": "nothing says why; was a file removed?",
}


def _verdict(reports: "Sequence[WriterReport]") -> str:
    written, lost = sum(report.written for report in reports), sum(report.lost for report in reports)
    torn = sum(len(report.torn) for report in reports)
    damaged = sum(len(report.damage) for report in reports)
    if all(report.is_whole for report in reports):
        return f"{written:,} records, none missing"
    words = [f"{written:,} records", f"{lost:,} missing"]
    words += [f"{torn:,} torn segment(s)"] if torn else []
    words += [f"{damaged:,} damaged place(s)"] if damaged else []
    return ", ".join(words)


def _report_json(report: "WriterReport") -> dict[str, Any]:
    return {
        "writer": str(report.writer),
        "slot": report.writer.slot,
        "epoch": str(report.writer.epoch),
        "lives": report.lives,
        "segments": report.segments,
        "first_sequence": report.first_sequence,
        "last_sequence": report.last_sequence,
        "written": report.written,
        "in_segments": report.in_segments,
        "sealed": report.sealed,
        "erased": report.erased,
        "dropped": report.dropped,
        "lost": report.lost,
        "synced": report.synced,
        "missing": [
            {"first_sequence": part.first_sequence, "last_sequence": part.last_sequence, "reason": part.reason}
            for part in report.missing
        ],
        "torn": [_damage_json(place) for place in report.torn],
        "damage": [_damage_json(place) for place in report.damage],
    }


def _damage_json(place: "Damage") -> dict[str, Any]:
    return {"segment": str(place.segment), "offset": place.offset, "what": place.what}


def _instant(micros: int) -> str:
    return from_micros(micros).strftime("%Y-%m-%d %H:%M:%S")


add_commands(lookups)
