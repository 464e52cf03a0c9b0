"""Change one value of one row of a source, as a careless backfill would, and put it back.

    python demo/change.py fraud@v1 --repo feature_repo
    python demo/change.py --undo --repo feature_repo

The row is the one of `data/account_profile.parquet` that answered most rows of the training set. The file as it was is kept beside it.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hindcast.datasets import TrainingSet, TrainingSets

VIEW, COLUMN = "account_profile", "risk_score"
SOURCE = Path("data") / f"{VIEW}.parquet"


@dataclass(frozen=True, slots=True)
class Changed:
    """A value that was changed.

    Attributes:
        row: its number in the file, from 0.
        answered: how many rows of the training set have it.
    """

    row: int
    account_id: str
    before: float
    after: float
    answered: int

    def __str__(self) -> str:
        return (
            f"changed {COLUMN} in row {self.row:,} of {SOURCE}: {self.before:.4f} -> {self.after:.4f} "
            f"(account {self.account_id}, {self.answered} rows of the set have it)"
        )


def change(repo: Path, training_set: TrainingSet) -> Changed:
    """Change the value of the row that answered most; the file is exchanged in one step."""
    path = repo / SOURCE
    source = pq.read_table(path)
    values = source[COLUMN].to_pylist()
    evidence = [training_set.path / file.path for file in training_set.manifest.evidence.origins]
    rows = pc.value_counts(
        pa.concat_tables(pq.read_table(part, columns=[f"{VIEW}.row"]) for part in evidence).column(0)
    )
    counted = [(count.as_py(), row.as_py()) for row, count in zip(*rows.flatten(), strict=True)]
    answered, row = max(pair for pair in counted if pair[1] is not None and values[pair[1]] is not None)
    before = values[row]
    values[row] = before / 2 + 0.25
    column = source.schema.get_field_index(COLUMN)
    changed = source.set_column(column, source.schema.field(column), pa.array(values, source.schema.field(column).type))
    written, kept = path.with_suffix(".written"), _kept(repo)
    pq.write_table(changed, written)
    if not kept.exists():
        os.link(path, kept)
    written.replace(path)
    return Changed(row, source["account_id"][row].as_py(), before, changed[COLUMN][row].as_py(), answered)


def undo(repo: Path) -> bool:
    """Put the file back; False where it had not been changed."""
    kept = _kept(repo)
    if not kept.exists():
        return False
    kept.replace(repo / SOURCE)
    return True


def _kept(repo: Path) -> Path:
    return (repo / SOURCE).with_suffix(".before")


def main() -> int:
    """Change, or put back."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("training_set", nargs="?", help="NAME@vN: of its rows one is hit")
    parser.add_argument("--undo", action="store_true", help="put the file back")
    parser.add_argument("--repo", type=Path, default=Path())
    given = parser.parse_args()
    if given.undo == bool(given.training_set):
        parser.error("name a training set, or give --undo")
    if given.undo:
        print(f"{SOURCE} is as it was" if undo(given.repo) else f"{SOURCE} had not been changed")
    else:
        print(change(given.repo, TrainingSets(given.repo).get(given.training_set)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
