"""What the names of folders say of the rows below them, as in `country=DE/day=2026-01-01`."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

from hindcast.offline.location import HIVE_NULL

_FOLDER = re.compile(r"([^=]+)=(.*)", re.DOTALL)
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def folder_columns(folders: Sequence[Sequence[str]]) -> Sequence[Mapping[str, pa.Scalar]]:
    """For each file the columns that its folders name; a column has one type for all files.

    Args:
        folders: of each file, the names of the folders that it is in.
    """
    texts = [_values(names) for names in folders]
    types = {
        name: _type([values.get(name) for values in texts])
        for name in sorted({name for values in texts for name in values})
    }
    return [{name: pa.scalar(values.get(name)).cast(kind) for name, kind in types.items()} for values in texts]


def _values(names: Sequence[str]) -> Mapping[str, str | None]:
    matches = (_FOLDER.fullmatch(name) for name in names)
    return {
        unquote(match[1]): None if match[2] == HIVE_NULL else unquote(match[2])
        for match in matches
        if match is not None
    }


def _type(texts: Sequence[str | None]) -> pa.DataType:
    """The narrowest that gives every text back: whole numbers, dates, or text."""
    there = [text for text in texts if text is not None]
    if there and all(_WHOLE_NUMBER.fullmatch(text) for text in there):
        return pa.int64()
    if there and all(_DATE.fullmatch(text) for text in there):
        try:
            pa.array(there).cast(pa.date32())
        except pa.ArrowInvalid:
            return pa.string()
        return pa.date32()
    return pa.string()
