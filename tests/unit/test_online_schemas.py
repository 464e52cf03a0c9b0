"""Field lists as they are stored online."""

import pytest

from hindcast.errors import StoredDataError
from hindcast.online.schemas import Field, Schema, read_schema

SCHEMA = Schema((Field("trips", 4), Field("rating", 5)))


def test_a_field_list_is_read_as_it_was_stored():
    """What is stored under a schema's id is that schema."""
    assert SCHEMA == read_schema(SCHEMA.id, SCHEMA.to_bytes())


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, "is missing"),
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b'[["trips"]]', "is damaged"),
        (SCHEMA.to_bytes().replace(b"trips", b"tr\xffps"), "is damaged"),
        (SCHEMA.to_bytes().replace(b"trips", b"tries"), "holds another field list"),
    ],
)
def test_a_field_list_that_is_not_the_one_of_its_id(stored, expected):
    """A field list that is missing, no list, or another one is an error that says what to do, and none is made up."""
    with pytest.raises(StoredDataError, match=f"{expected}.*materialize the view again"):
        read_schema(SCHEMA.id, stored)
