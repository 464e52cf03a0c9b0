"""What two values of a replay are to each other: equal, nearly, or not."""

import struct

import pytest

from hindcast.online.field_status import NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT
from hindcast.replay.result import Answered
from hindcast.replay.verdicts import is_close
from hindcast.v1.value_pb2 import Value

NANS = [struct.unpack(">d", bits.to_bytes(8, "big"))[0] for bits in (0x7FF8000000000001, 0xFFF8000000000002)]


def double(number):
    return Value(double_val=number).SerializeToString()


def answered(value, status=PRESENT):
    return Answered(value=value.SerializeToString() if isinstance(value, Value) else value, status=status)


@pytest.mark.parametrize(
    ("one", "other", "close"),
    [
        (double(0.0), double(-0.0), True),
        (double(NANS[0]), double(NANS[1]), True),
        (double(NANS[0]), b"", True),
        (double(0.1 + 0.2), double(0.3), True),
        (double(1.0), double(1.000001), False),
        (double(1.0), double(NANS[0]), False),
        (double(1.0), b"", False),
        (b"", b"", False),
        (Value(float_val=0.1).SerializeToString(), double(0.1), False),
        (Value(int64_val=1).SerializeToString(), Value(int64_val=1).SerializeToString(), False),
        (
            Value(double_list_val={"val": [1.0, -0.0]}).SerializeToString(),
            Value(double_list_val={"val": [1.0, 0.0]}).SerializeToString(),
            True,
        ),
        (
            Value(float_list_val={"val": [1.0]}).SerializeToString(),
            Value(float_list_val={"val": [1.0, 1.0]}).SerializeToString(),
            False,
        ),
    ],
)
def test_only_bits_differ(one, other, close):
    """Numbers that most comparisons take for the same are close, in both directions; whole numbers and other kinds never are."""
    assert (close, close) == (is_close(one, other), is_close(other, one))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (answered(double(0.0)), answered(double(-0.0)), False),
        (answered(double(NANS[0])), answered(double(NANS[0])), True),
        (answered(double(NANS[0])), answered(double(NANS[1])), False),
        (answered(b"", NULL_VALUE), answered(b"", PRESENT), True),
        (answered(b"\x98\x01\x00", PRESENT), answered(b"", NULL_VALUE), True),
        (answered(b"", NULL_VALUE), answered(b"", NOT_FOUND), False),
        (answered(b"", OUTSIDE_MAX_AGE), answered(b"", NOT_FOUND), True),
        (answered(double(1.0), OUTSIDE_MAX_AGE), answered(b"", OUTSIDE_MAX_AGE), False),
        (answered(Value(string_val="")), answered(b"", NULL_VALUE), False),
        (
            answered(Value(int64_list_val={"val": [1, 2]})),
            answered(Value(int64_list_val={"val": [2, 1]})),
            False,
        ),
        (
            answered(Value(int64_set_val={"val": [1, 2]})),
            answered(Value(int64_set_val={"val": [2, 1]})),
            True,
        ),
        (
            answered(Value(string_set_val={"val": ["a", "b"]})),
            answered(Value(string_set_val={"val": ["a", "c"]})),
            False,
        ),
    ],
)
def test_equal_is_what_a_model_could_not_tell_apart(one, other, equal):
    """The same bits are equal, and nulls of one kind; sets have no order, and lists have one."""
    assert (equal, equal) == (one.equals(other), other.equals(one))
