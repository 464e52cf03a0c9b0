"""Arrow arrays of the columns of `canonical_oracle`, in forms that mean the same: other layouts, other bytes under nulls, slices.

A `Form` draws which; each call of `array` may give another form of the same values.
"""

import numpy as np
import pyarrow as pa

import canonical_oracle as oracle

FIXED = {
    kind.text: (kind, arrow)
    for kind, arrow in [
        *(
            (oracle.Fixed(str(arrow), arrow.bit_width // 8), arrow)
            for arrow in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64())
        ),
        (oracle.Fixed("float16", 2), pa.float16()),
        (oracle.Fixed("float32", 4), pa.float32()),
        (oracle.Fixed("float64", 8), pa.float64()),
        (oracle.Fixed("bytes(3)", 3), pa.binary(3)),
        (oracle.Fixed("timestamp(ns)", 8), pa.timestamp("ns")),
        (oracle.Fixed('timestamp(us,"Europe/Berlin")', 8), pa.timestamp("us", "Europe/Berlin")),
        (oracle.Fixed("date(d)", 4), pa.date32()),
        (oracle.Fixed("date(ms)", 8), pa.date64()),
        (oracle.Fixed("time(s)", 4), pa.time32("s")),
        (oracle.Fixed("time(ns)", 8), pa.time64("ns")),
        (oracle.Fixed("duration(ms)", 8), pa.duration("ms")),
        (oracle.Fixed("interval(month_day_nano)", 16), pa.month_day_nano_interval()),
        (oracle.Fixed("decimal(38,2)", 16), pa.decimal128(38, 2)),
        (oracle.Fixed("decimal(60,-3)", 32), pa.decimal256(60, -3)),
    ]
}
TEXTS = {
    "text": (pa.string(), pa.large_string(), pa.string_view()),
    "bytes": (pa.binary(), pa.large_binary(), pa.binary_view()),
}
GARBAGE = 0xA5


class Money(pa.ExtensionType):
    """An extension type."""

    def __init__(self, storage=pa.int32()) -> None:  # noqa: B008 - a value
        super().__init__(storage, "test.money")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls(storage)


class Form:
    """How arrays are laid out.

    Args:
        pick: gives one of a sequence.
    """

    def __init__(self, pick) -> None:
        self._pick = pick

    def array(self, kind, values):
        """An array of the values."""
        # A slice of more, whose ends are not the values'.
        before, after = self._pick([(0, 0), (1, 0), (3, 2), (8, 1)])
        filler = values[0] if values else None
        whole = [filler] * before + list(values) + [None] * after * bool(values)
        return self._whole(kind, whole).slice(before if values else 0, len(values))

    def _whole(self, kind, values):
        if isinstance(kind, oracle.Extension):
            storage = self._whole(kind.storage, values)
            return pa.ExtensionArray.from_storage(Money(storage.type), storage)
        if isinstance(kind, oracle.Fixed):
            return self._encoded(self._fixed(kind, values))
        if isinstance(kind, oracle.Plain):
            return self._plain(kind, values)
        return self._nested(kind, values)

    def _plain(self, kind, values):
        if kind.text == "null":
            return pa.nulls(len(values))
        if kind.text == "bool":
            data = oracle.bits([True if value is None else value for value in values])
            return pa.Array.from_buffers(pa.bool_(), len(values), [self._valid(values), pa.py_buffer(data)])
        arrow = self._pick(TEXTS[kind.text])
        if "view" in str(arrow):
            return pa.array(values, arrow)
        # Text under nulls.
        filled = [b"under" if value is None else oracle.raw(value) for value in values]
        offsets = np.cumsum([0, *map(len, filled)]).astype(np.int64 if "large" in str(arrow) else np.int32)
        buffers = [self._valid(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(filled))]
        return self._encoded(pa.Array.from_buffers(arrow, len(values), buffers))

    def _fixed(self, kind, values):
        arrow = FIXED[kind.text][1]
        garbage = bytes([GARBAGE]) * kind.width
        data = b"".join(garbage if value is None else value.to_bytes(kind.width, "little") for value in values)
        return pa.Array.from_buffers(arrow, len(values), [self._valid(values), pa.py_buffer(data)])

    def _valid(self, values):
        if None not in values:
            return self._pick([None, pa.py_buffer(b"\xff" * (len(values) // 8 + 1))])
        return pa.py_buffer(oracle.bits([value is not None for value in values]))

    def _encoded(self, array):
        # Arrow makes no dictionaries of the other types here, and would join NaNs of different bits.
        if not (pa.types.is_integer(array.type) or pa.types.is_string(array.type) or pa.types.is_binary(array.type)):
            return array
        if not self._pick([True, False]):
            return array
        return array.dictionary_encode(null_encoding=self._pick(["mask", "encode"]))

    def _nested(self, kind, values):
        rows = len(values)
        mask = [value is None for value in values]
        if isinstance(kind, oracle.StructOf):
            inner = [
                self.array(field, [GARBAGE_ROW.get(field.text) if value is None else value[at] for value in values])
                for at, (_, field) in enumerate(kind.fields)
            ]
            fields = [pa.field(name, one.type) for (name, _), one in zip(kind.fields, inner, strict=True)]
            return pa.StructArray.from_arrays(inner, fields=fields, mask=pa.array(mask, pa.bool_()))
        if isinstance(kind, oracle.ListOfSize):
            flat = [
                one
                for value in values
                for one in ([GARBAGE_ROW.get(kind.inner.text)] * kind.size if value is None else value)
            ]
            inner = self.array(kind.inner, flat)
            # Not `from_arrays`, which divides by the size.
            arrow = pa.list_(inner.type, kind.size)
            return pa.Array.from_buffers(arrow, rows, [self._valid(values)], children=[inner])
        lists = [value if value is not None else [] for value in values]
        if isinstance(kind, oracle.MapOf):
            pairs = [pair for value in lists for pair in value]
            keys = self.array(kind.key, [key for key, _ in pairs])
            items = self.array(kind.value, [item for _, item in pairs])
            offsets = [None if is_null else end for is_null, end in zip([*mask, False], ends(lists), strict=True)]
            return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), keys, items)
        # A null list may hold values.
        under = self._pick([0, 2]) if kind.inner.text != "null" else 0
        spread = [
            [GARBAGE_ROW.get(kind.inner.text)] * under if is_null else value
            for is_null, value in zip(mask, lists, strict=True)
        ]
        inner = self.array(kind.inner, [one for value in spread for one in value])
        # Not `cast`, which does not know every inner type.
        layout, number = self._pick(
            [(pa.list_, np.int32), (pa.large_list, np.int64), (pa.list_view, np.int32), (pa.large_list_view, np.int64)]
        )
        offsets = np.array(ends(spread), number)
        buffers = [self._valid(values), pa.py_buffer(offsets)]
        if layout in {pa.list_view, pa.large_list_view}:
            buffers = [self._valid(values), pa.py_buffer(offsets[:-1].copy()), pa.py_buffer(np.diff(offsets))]
        return pa.Array.from_buffers(layout(inner.type), rows, buffers, children=[inner])


GARBAGE_ROW = {"bool": True, "text": "under", "bytes": b"under", **dict.fromkeys(FIXED, 1)}


def ends(lists):
    """Where each list begins, and the end."""
    total = [0]
    for one in lists:
        total.append(total[-1] + len(one))
    return total
