"""Protobuf's wire form, as far as a message has to be looked at before it is parsed."""


def has_more_fields(message: bytes, fields_max: int) -> bool:
    """Whether a message holds more fields than that: each entry of a map or list is one, and what is in it is none.

    Looks at `fields_max` fields at most, whatever the length. Of bytes that are no message it may say either; a parser
    knows better.
    """
    at = 0
    for _ in range(fields_max):
        if at >= len(message):
            return False
        tag, at = _varint(message, at)
        wire_type = tag & 7
        if wire_type == 0:
            _, at = _varint(message, at)
        elif wire_type == 1:
            at += 8
        elif wire_type == 2:
            size, at = _varint(message, at)
            at += size
        elif wire_type == 5:
            at += 4
        # The ends of a group stand alone; what is between them counts.
    return at < len(message)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = 0
    for position, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * position
        if byte < 128:
            return value, at + position + 1
    return value, at + 10
