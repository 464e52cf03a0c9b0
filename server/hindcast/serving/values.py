"""Values that callers send, read as they would stand in an answer: protobuf's parsers bound nesting (100 levels), so a value that
can be read alone can make an answer that cannot.
"""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from hindcast.errors import InvalidArgument
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1.feature_service_pb2 import GetOnlineFeaturesResponse
from hindcast.v1.value_pb2 import Value

SHALLOW_BYTES_MAX = 190
"""A level of nesting takes two bytes or more, so a value that is no longer cannot be too deep for an answer."""

_FEW_VALUES = 8
"""Up to here values are parsed faster one by one (0.8 us for one, against 5.5 us in an answer), beyond it together."""


def read_values(path: str, column: Sequence[bytes]) -> Sequence[Value]:
    """A column's values; the error names the first that is none by its place under the column's path.

    Raises:
        InvalidArgument: a value is damaged, or nested too deeply.
    """
    try:
        return in_answer(column)
    except DecodeError:
        for at, value in enumerate(column):
            try:
                in_answer([value])
            except DecodeError as error:
                raise InvalidArgument.at(f"{path}.val[{at}]", "is not a serialized Value") from error
        raise


def in_answer(column: Sequence[bytes]) -> Sequence[Value]:
    """The values.

    Raises:
        DecodeError: one is damaged, or nested too deeply.
    """
    if len(column) <= _FEW_VALUES and all(len(value) <= SHALLOW_BYTES_MAX for value in column):
        return [Value.FromString(value) for value in column]
    answer = shadow_pb2.HindcastResponse(columns=[shadow_pb2.HindcastColumn(values=column)])
    return GetOnlineFeaturesResponse.FromString(answer.SerializeToString()).columns[0].values
