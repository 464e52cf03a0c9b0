"""Proofs that a row is part of a table, from the table's digest and the row's block alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa

from hindcast.datasets.canonical import BLOCK_ROWS, FORMAT, TableDigest, block_digest, table_root
from hindcast.datasets.column_types import canonical_schema
from hindcast.datasets.hash_tree import root_by_siblings, siblings
from hindcast.errors import InvalidArgument, NotProven

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What proves, with the rows of its block, that a row is part of a table.

    Attributes:
        row: its position, from 0.
        rows: of the table.
        block: digest of the block that the row is in: rows from `first_row`, 1,024 or as many as are left.
        siblings: digests on the way up to the table's root, the lowest first.
    """

    row: int
    rows: int
    block: bytes
    siblings: tuple[bytes, ...]

    @property
    def first_row(self) -> int:
        """The first row of the block."""
        return self.row - self.row % BLOCK_ROWS

    @property
    def block_rows(self) -> int:
        """Rows of the block."""
        return min(BLOCK_ROWS, self.rows - self.first_row)

    def to_json(self) -> dict[str, Any]:
        """Numbers and text only; digests in hex."""
        return {
            "format": FORMAT,
            "row": self.row,
            "rows": self.rows,
            "block": self.block.hex(),
            "siblings": [sibling.hex() for sibling in self.siblings],
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Proof":
        """The proof.

        Raises:
            InvalidArgument: it has not this form.
        """
        if given.get("format") != FORMAT:
            raise InvalidArgument.at("proof.format", f"is not {FORMAT}; verify it with the version that made it")
        row, rows, siblings = given.get("row"), given.get("rows"), given.get("siblings")
        # A bool is an int to Python, and not to JSON.
        if type(row) is not int or type(rows) is not int or not 0 <= row < rows < 2**63:
            raise InvalidArgument.at("proof.row", "must be a whole number from 0, and less than proof.rows")
        if not isinstance(siblings, list):
            raise InvalidArgument.at("proof.siblings", "must be a list")
        digests = [_digest_of_hex(f"proof.siblings[{place}]", text) for place, text in enumerate(siblings)]
        return cls(row=row, rows=rows, block=_digest_of_hex("proof.block", given.get("block")), siblings=tuple(digests))


def proof(table: TableDigest, row: int) -> Proof:
    """What proves that a row is part of the table, together with the rows of its block.

    Raises:
        InvalidArgument: the table has no such row.
        NotProven: the table's digests do not belong together.
    """
    if not 0 <= row < table.rows:
        raise InvalidArgument.at("row", f"must be 0 to {table.rows - 1}, the table's rows, not {row}")
    blocks = list(chain.from_iterable(group.blocks for group in table.groups))
    place = row // BLOCK_ROWS
    if len(blocks) != -(-table.rows // BLOCK_ROWS):
        raise NotProven(f"the digest of {table.rows} rows has {len(blocks)} blocks; it was changed after it was taken")
    made = Proof(row=row, rows=table.rows, block=blocks[place], siblings=tuple(siblings(blocks, place)))
    if table_root(table.schema, table.rows, _tree_root(made)) != table.root:
        raise NotProven("the digests of the blocks do not give the table's; one was changed after it was taken")
    return made


def verify_proof(root: bytes, proof: Proof, block_rows: pa.RecordBatch) -> None:
    """Check that rows are a block of the table with that root, at the place that the proof says.

    Args:
        block_rows: all rows of the row's block and no others: those from `proof.first_row`.
    Raises:
        NotProven: they are not.
        InvalidArgument: a column has a type without canonical bytes.
    """
    if not 0 <= proof.row < proof.rows:
        raise NotProven(f"the proof is of row {proof.row} of {proof.rows}, which is none")
    if block_rows.num_rows != proof.block_rows:
        raise NotProven(
            f"the block of row {proof.row} has {proof.block_rows} rows, from {proof.first_row}; {block_rows.num_rows} were given"
        )
    if block_digest(block_rows) != proof.block:
        raise NotProven(f"the rows are not those of the block of row {proof.row}: a value or a type is another")
    if table_root(canonical_schema(block_rows.schema), proof.rows, _tree_root(proof)) != root:
        raise NotProven(f"the block of row {proof.row} is no part of the table with the root {root.hex()}")


def _digest_of_hex(where: str, text: Any) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except (TypeError, ValueError):
        digest = b""
    if len(digest) != _DIGEST_BYTES or digest.hex() != text:
        raise InvalidArgument.at(where, "must be a digest: 64 hex digits")
    return digest


def _tree_root(proof: Proof) -> bytes:
    """The root of the blocks' tree.

    Raises:
        NotProven: there are more siblings or fewer than a tree of that many rows has.
    """
    blocks = -(-proof.rows // BLOCK_ROWS)
    root = root_by_siblings(proof.block, proof.row // BLOCK_ROWS, blocks, proof.siblings)
    if root is None:
        raise NotProven(f"{len(proof.siblings)} siblings are no proof of row {proof.row} of {proof.rows}")
    return root
