"""How a failed call is told."""

import pickle

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

import hindcast_client
from hindcast_client import FieldViolation, HindcastError, InvalidRequest, ServerError
from hindcast_client._errors import _BY_CODE, error_of, read_violations

VIOLATION = FieldViolation("entities[driver_id].val[3]", "is string, not int64")


def status_bytes():
    """A google.rpc.Status as a server writes it, with a detail that this client does not read."""
    bad_request = error_details_pb2.BadRequest()
    bad_request.field_violations.add(field=VIOLATION.field, description=VIOLATION.description)
    status = status_pb2.Status(code=3, message="bad request")
    for detail in (error_details_pb2.RequestInfo(request_id="r"), bad_request):
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status.SerializeToString()


class Failure:
    """What grpc raises, as far as the client looks."""

    def __init__(self, code, *metadata):
        self._code, self._metadata = code, metadata

    def code(self):
        """The status code."""
        return self._code

    def details(self):
        """The message."""
        return "no"

    def trailing_metadata(self):
        """As grpc gives it: None where there is none."""
        return self._metadata or None


def test_violations_are_read_without_googleapis():
    """The fields at fault are read from the status details as Google's own library writes them."""
    expected = (VIOLATION,)
    assert expected == read_violations(status_bytes())


@pytest.mark.parametrize("spoiled", [b"", b"\xff\xff", status_bytes()[:-4]])
def test_details_that_do_not_parse_are_left_out(spoiled):
    """Torn status details hide no error: it is told without them."""
    expected = ()
    assert expected == read_violations(spoiled)


def test_every_code_has_its_error():
    """Each gRPC status code but OK maps to a leaf of the tree, the ones without a class of their own to ServerError."""
    for code in set(grpc.StatusCode) - {grpc.StatusCode.OK}:
        error = error_of(Failure(code))
        assert (_BY_CODE.get(code, ServerError), code, "no") == (type(error), error.code, error.message)


def test_an_error_tells_all_it_carries():
    """The text of an error has the code, the message, the fields at fault and the lookup's id."""
    error = error_of(
        Failure(
            grpc.StatusCode.INVALID_ARGUMENT,
            ("hindcast-lookup-id", "lookup-1"),
            ("grpc-status-details-bin", status_bytes()),
        )
    )
    expected = "INVALID_ARGUMENT: no\n  entities[driver_id].val[3]: is string, not int64\n  lookup lookup-1"
    assert expected == str(error)


def test_an_error_crosses_processes():
    """A pickled error comes back as the same class with all of its fields."""
    error = InvalidRequest("no", code=grpc.StatusCode.OUT_OF_RANGE, lookup_id="l", violations=(VIOLATION,))
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(error), str(error), vars(error)) == (type(back), str(back), vars(back))


def test_every_error_is_public_and_one_tree():
    """Every error that a call can raise is exported, and caught by HindcastError."""
    names = {kind.__name__ for kind in _BY_CODE.values()} | {"ServerError", "HindcastError"}
    assert names <= set(hindcast_client.__all__)
    assert all(issubclass(getattr(hindcast_client, name), HindcastError) for name in names)
