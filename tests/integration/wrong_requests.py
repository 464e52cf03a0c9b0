"""The table of wrong requests: what is sent, and exactly what comes back. `test_wrong_requests.py` holds the server to it, and
docs/errors.md to the same rows.

To add a row, write it into its group (`wrong_questions.py`, `wrong_bytes.py`, or a module of your own with a group for `GROUPS`):
`asks` makes the request of both dialects from names and columns, `sends` takes bytes and methods as they are. A new RPC needs no
more than its path in `methods`, and in `LOOKUPS` if its calls carry a lookup id. What comes back is `bad` (fields), `unknown` (a
name), another `Refusal`, or `None` for what looks wrong and is answered. `in_docs` is the line of docs/errors.md that a row falls
under; the test fails with the lines that the page lacks.
"""

from collections.abc import Callable, Iterable, Mapping

from integration import wrong_bytes, wrong_questions, wrong_receipts
from integration.request_rows import Row

GROUPS: Mapping[str, Callable[[], Iterable[Row]]] = {
    "Names": wrong_questions.names,
    "References": wrong_questions.references,
    "Entities": wrong_questions.entities,
    "Types of join keys": wrong_questions.key_types,
    "Values": wrong_bytes.values,
    "Request data": wrong_bytes.request_data,
    "Messages": wrong_bytes.messages,
    "Outside of lookups": wrong_bytes.outside_of_handlers,
    "Receipts": wrong_receipts.receipts,
    "Answered after all": wrong_bytes.answered,
}

ROWS: Mapping[str, tuple[Row, ...]] = {group: tuple(rows()) for group, rows in GROUPS.items()}
