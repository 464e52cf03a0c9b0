"""Many lookups on one open call: what goes out for each, and what its answer means."""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.duration_pb2 import Duration

from hindcast.v1.feature_service_pb2 import LookupFailure, StreamOnlineFeaturesRequest, StreamOnlineFeaturesResponse
from hindcast_client._columns import Table
from hindcast_client._errors import FieldViolation, HindcastError, kind_of
from hindcast_client._receipt import CODES
from hindcast_client._request import Question, ask
from hindcast_client._result import FeatureResult, read_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One lookup of a stream; the arguments are those of `Client.get_online_features`.

    Attributes:
        timeout_seconds: from when the server reads it; None means the server's own.
    """

    features: str | Sequence[str]
    entities: Table
    request_data: Table | None = None
    full_feature_names: bool = False
    request_id: str | None = None
    tags: Mapping[str, str] | None = None
    timeout_seconds: float | None = None


class Asked:
    """The lookups of one stream that have no answer yet, in order.

    Attributes:
        wrong: why the caller's lookups could not go on; gRPC tells its own side of it only.
    """

    def __init__(self) -> None:
        self._questions: deque[Question] = deque()
        self.wrong: Exception | None = None

    def requests(self, lookups: Iterable[Lookup]) -> Iterator[StreamOnlineFeaturesRequest]:
        """What goes out."""
        try:
            for lookup in lookups:
                yield self._request(lookup)
        except Exception as error:
            self.wrong = error
            raise

    async def async_requests(self, lookups: AsyncIterator[Lookup]) -> AsyncIterator[StreamOnlineFeaturesRequest]:
        """What goes out."""
        try:
            async for lookup in lookups:
                yield self._request(lookup)
        except Exception as error:
            self.wrong = error
            raise

    def outcome(self, response: StreamOnlineFeaturesResponse) -> FeatureResult | HindcastError:
        """What became of the oldest lookup without an answer."""
        question = self._questions.popleft()
        if response.WhichOneof("outcome") == "failure":
            return _error(response.failure)
        return read_result(question, response.answer)

    def _request(self, lookup: Lookup) -> StreamOnlineFeaturesRequest:
        question = ask(
            features=lookup.features,
            entities=lookup.entities,
            request_data=lookup.request_data,
            full_feature_names=lookup.full_feature_names,
            request_id=lookup.request_id,
            tags=lookup.tags,
        )
        request = StreamOnlineFeaturesRequest(lookup=question.message)
        if lookup.timeout_seconds is not None:
            nanos = max(0, round(lookup.timeout_seconds * 1e9))
            request.timeout.CopyFrom(Duration(seconds=nanos // 10**9, nanos=nanos % 10**9))
        self._questions.append(question)
        return request


def _error(failure: LookupFailure) -> HindcastError:
    code = CODES.get(failure.code, grpc.StatusCode.UNKNOWN)
    return kind_of(code)(
        failure.message,
        code=code,
        lookup_id=failure.lookup_id or None,
        violations=tuple(FieldViolation(wrong.field, wrong.description) for wrong in failure.field_violations),
    )
