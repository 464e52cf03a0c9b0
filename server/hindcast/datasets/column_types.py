"""Types of columns as the logical digest sees them: what a value means, and not how Arrow lays it out (docs/formats.md)."""

import json
from collections.abc import Callable, Sequence

import pyarrow as pa

from hindcast.errors import InvalidArgument

_EXTENSION_NAME = b"ARROW:extension:name"


def canonical_schema(schema: pa.Schema) -> str:
    """Names and types of columns as the digest sees them, a line each: `"name" type`.

    Raises:
        InvalidArgument: a column has a type without canonical bytes.
    """
    lines = []
    for field in schema:
        text = _field_text(field)
        if text is None:
            raise InvalidArgument.at(
                field.name, f"has the type {field.type}, which a training set cannot hold; cast it"
            )
        lines.append(f"{_quoted(field.name)} {text}")
    return "\n".join(lines)


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _field_text(field: pa.Field) -> str | None:
    text = _type_text(field.type)
    # A type that this process does not know comes as its storage, and its name beside it.
    name = (field.metadata or {}).get(_EXTENSION_NAME)
    if text is None or name is None or isinstance(field.type, pa.BaseExtensionType):
        return text
    return f"extension({_quoted(name.decode())},{text})"


_PLAIN_TEXTS: Sequence[tuple[Callable[[pa.DataType], bool], str]] = (
    (pa.types.is_null, "null"),
    (pa.types.is_boolean, "bool"),
    (pa.types.is_float16, "float16"),
    (pa.types.is_float32, "float32"),
    (pa.types.is_float64, "float64"),
    (pa.types.is_string, "text"),
    (pa.types.is_large_string, "text"),
    (pa.types.is_string_view, "text"),
    (pa.types.is_binary, "bytes"),
    (pa.types.is_large_binary, "bytes"),
    (pa.types.is_binary_view, "bytes"),
    (pa.types.is_date32, "date(d)"),
    (pa.types.is_date64, "date(ms)"),
    (pa.types.is_interval, "interval(month_day_nano)"),
)


def _type_text(kind: pa.DataType) -> str | None:  # noqa: C901, PLR0912 - one branch a type
    """The type's canonical text; None for a type without canonical bytes."""
    types = pa.types
    plain = next((text for is_kind, text in _PLAIN_TEXTS if is_kind(kind)), None)
    if plain is not None:
        return plain
    text = None
    if types.is_integer(kind):
        text = str(kind)
    elif types.is_decimal(kind):
        text = f"decimal({kind.precision},{kind.scale})"
    elif types.is_fixed_size_binary(kind):
        text = f"bytes({kind.byte_width})"
    elif types.is_timestamp(kind):
        text = f"timestamp({kind.unit})" if kind.tz is None else f"timestamp({kind.unit},{_quoted(kind.tz)})"
    elif types.is_time(kind):
        text = f"time({kind.unit})"
    elif types.is_duration(kind):
        text = f"duration({kind.unit})"
    elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        text = _type_text(kind.value_type)
    elif isinstance(kind, pa.BaseExtensionType):
        text = _around(f"extension({_quoted(kind.extension_name)},", [_type_text(kind.storage_type)], ")")
    elif types.is_map(kind):
        text = _around("map(", [_field_text(kind.key_field), _field_text(kind.item_field)], ")")
    elif types.is_fixed_size_list(kind):
        text = _around(f"list[{kind.list_size}](", [_field_text(kind.value_field)], ")")
    elif is_list(kind):
        text = _around("list(", [_field_text(kind.value_field)], ")")
    elif types.is_struct(kind):
        fields = [(field.name, _field_text(field)) for field in kind]
        text = _around("struct(", [text and f"{_quoted(name)} {text}" for name, text in fields], ")")
    return text


def _around(begin: str, parts: Sequence[str | None], end: str) -> str | None:
    known = [part for part in parts if part is not None]
    return f"{begin}{','.join(known)}{end}" if len(known) == len(parts) else None


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a list of any length, in any of Arrow's layouts."""
    types = pa.types
    return bool(
        types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind) or types.is_large_list_view(kind)
    )
