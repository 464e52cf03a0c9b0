"""The status of every error: code, reason, details, and nothing that an exception said."""

import asyncio

import pytest
from google.rpc import error_details_pb2, status_pb2

from hindcast import errors
from hindcast.serving.status import _CODES, abort

CANARY = "redis://keeper:c4n4ry@10.0.0.7"
EVERY = {
    errors.InvalidArgument: errors.InvalidArgument.at("entities", "is wrong"),
    errors.UnknownName: errors.UnknownName("feature view", "nope"),
    errors.Overloaded: errors.Overloaded("lag", "said why"),
}
EVERY |= {kind: kind("said why") for kind in _CODES if kind not in EVERY}
LOOKUP = {"call": "lookup an id", "metadata": (("hindcast-lookup-id", "an id"),)}


class Context:
    """Keeps what a call was ended with."""

    async def abort(self, code, message, trailing):
        """End the call."""
        self.code, self.message, self.trailing = code, message, dict(trailing)
        raise EOFError


def aborted(error, **options):
    """The code, message and trailing metadata that an error gives, and its details by their type."""
    context = Context()
    with pytest.raises(EOFError):
        asyncio.run(abort(context, error, **options))
    status = status_pb2.Status.FromString(context.trailing["grpc-status-details-bin"])
    assert (context.code.value[0], context.message) == (status.code, status.message)
    details = {}
    for packed in status.details:
        name = packed.type_url.rsplit(".", 1)[1]
        details[name] = getattr(error_details_pb2, name).FromString(packed.value)
    return context, details


def every_error_below(kind):
    """The leaves of the tree of errors."""
    below = kind.__subclasses__()
    return {leaf for child in below for leaf in every_error_below(child)} if below else {kind}


def test_every_error_of_a_call_has_a_code():
    """Only errors that no call can meet are missing in the table of codes."""
    known = {
        *(errors.RepoError, errors.CatalogError, errors.GenerationConflict, errors.LedgerError),
        *(errors.ServerStartError, errors.SealError),
    }
    assert known == every_error_below(errors.HindcastError) - set(_CODES)


@pytest.mark.parametrize("kind", _CODES, ids=lambda kind: kind.__name__)
def test_every_error_has_its_reason_and_its_details(kind):
    """An error leaves with its code, its own words, its reason, and the one detail that its kind has."""
    context, details = aborted(EVERY[kind], **LOOKUP)
    code, reason = _CODES[kind]
    assert (code, str(EVERY[kind])) == (context.code, context.message)
    assert "an id" == context.trailing["hindcast-lookup-id"]
    info = details.pop("ErrorInfo")
    assert (reason, "hindcast") == (info.reason, info.domain)
    more = {
        errors.InvalidArgument: "BadRequest",
        errors.UnknownName: "ResourceInfo",
        errors.StoreUnavailable: "RetryInfo",
        errors.LogUnavailable: "RetryInfo",
        errors.Overloaded: "RetryInfo",
    }
    assert ([more[kind]] if kind in more else []) == list(details)


@pytest.mark.parametrize(
    "error", [RuntimeError(CANARY), KeyError(CANARY), RecursionError(CANARY), errors.RepoError(CANARY)]
)
def test_a_defect_says_nothing_of_itself(error):
    """What is no error of a call leaves as INTERNAL with the lookup's id, and not a word of the exception."""
    context, details = aborted(error, **LOOKUP)
    assert "a defect in Hindcast; report it with lookup an id" == context.message
    assert ("INTERNAL", "BUG") == (context.code.name, details["ErrorInfo"].reason)
    said = f"{context.message}{context.trailing!r}"
    assert [] == [word for word in (CANARY, type(error).__name__, "c4n4ry") if word in said]


def test_a_call_without_a_lookup_has_no_id():
    """Health and reflection have no lookups: their errors carry details and no id."""
    context, _ = aborted(errors.InvalidArgument.at("request", "is none"))
    assert ["grpc-status-details-bin"] == list(context.trailing)
