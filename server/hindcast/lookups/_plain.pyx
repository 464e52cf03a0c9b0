# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of `python_plain`: the same names and columns, and it reads records of the plain form that workers write.

What is not of that form, in whatever way, is left to `record.decode` and protobuf's own messages, which say what a record means. So
this takes nothing that they would refuse or read otherwise; `tests/contract/test_plain_twins.py` holds it to that.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from google_crc32c import extend as _extend

from hindcast.lookups.record import BEGINS as _BEGINS
from hindcast.lookups.record import END_MICROS as _END_MICROS
from hindcast.lookups.record import HEADER_BYTES as _HEADER_BYTES
from hindcast.lookups.segment import RECORD_BYTES as _RECORD_BYTES

cdef enum:
    ID_BYTES = 16
    MESSAGE_MAX = 0x7FFFFFFF
    VIEW_INLINE_MAX = 12
    SUMMED_BYTES = 12  # of a record's head: all but its sum

cdef Py_ssize_t HEADER = _HEADER_BYTES
cdef Py_ssize_t RECORD = _RECORD_BYTES
cdef bytes BEGINS = _BEGINS

cdef uint64_t END_MICROS = _END_MICROS
cdef int64_t DAY_MICROS = 86_400_000_000

cdef enum:
    FEAST = 0
    HINDCAST = 1
    STREAM = 2


cdef struct Span:
    const uint8_t *at
    Py_ssize_t size


cdef class _Buffer:
    """Bytes that grow."""

    cdef uint8_t *data
    cdef Py_ssize_t size
    cdef Py_ssize_t room

    def __dealloc__(self):
        free(self.data)

    cdef uint8_t *reserve(self, Py_ssize_t more) except NULL:
        """Room for so many bytes behind those that are there."""
        cdef Py_ssize_t room
        cdef uint8_t *data
        if self.data is NULL or self.room - self.size < more:
            room = max(self.room + (self.room >> 1), self.size + more, 256)
            data = <uint8_t *>realloc(self.data, room)
            if data is NULL:
                raise MemoryError
            self.data, self.room = data, room
        return self.data + self.size

    cdef int put(self, const void *content, Py_ssize_t size) except -1:
        memcpy(self.reserve(size), content, size)
        self.size += size
        return 0

    cdef int put_zeros(self, Py_ssize_t size) except -1:
        memset(self.reserve(size), 0, size)
        self.size += size
        return 0

    cdef int put_i32(self, int32_t number) except -1:
        return self.put(&number, sizeof(number))

    cdef int put_i64(self, int64_t number) except -1:
        return self.put(&number, sizeof(number))

    cdef object take(self):
        """All of them, where they are; none are left."""
        cdef _Taken taken = _Taken()
        self.reserve(0)
        taken.data, taken.size = self.data, self.size
        self.data = NULL
        self.size = self.room = 0
        return memoryview(taken)


cdef class _Taken:
    """Bytes that are read only: to copy them would take as long as to gather them."""

    cdef uint8_t *data
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, True, flags)

    def __dealloc__(self):
        free(self.data)


# msgpack: each gives where what it read ends, NULL where something else stands there.

cdef inline const uint8_t *_sized(const uint8_t *at, const uint8_t *end, int bytes_of_size, Span *found) noexcept:
    cdef uint64_t size = 0
    cdef int byte
    if end - at < bytes_of_size:
        return NULL
    for byte in range(bytes_of_size):
        size = size << 8 | at[byte]
    at += bytes_of_size
    if size > <uint64_t>(end - at):
        return NULL
    found.at, found.size = at, <Py_ssize_t>size
    return at + size


cdef const uint8_t *_bin(const uint8_t *at, const uint8_t *end, Span *found) noexcept:
    if at is NULL or at >= end:
        return NULL
    if at[0] == 0xC4:
        return _sized(at + 1, end, 1, found)
    if at[0] == 0xC5:
        return _sized(at + 1, end, 2, found)
    if at[0] == 0xC6:
        return _sized(at + 1, end, 4, found)
    return NULL


cdef const uint8_t *_str(const uint8_t *at, const uint8_t *end, Span *found) noexcept:
    if at is NULL or at >= end:
        return NULL
    if 0xA0 <= at[0] <= 0xBF:
        found.at, found.size = at + 1, at[0] & 0x1F
        if found.size > end - found.at:
            return NULL
        at = found.at + found.size
    elif at[0] == 0xD9:
        at = _sized(at + 1, end, 1, found)
    elif at[0] == 0xDA:
        at = _sized(at + 1, end, 2, found)
    elif at[0] == 0xDB:
        at = _sized(at + 1, end, 4, found)
    else:
        return NULL
    return at if at is not NULL and _is_text(found) else NULL


cdef const uint8_t *_uint(const uint8_t *at, const uint8_t *end, uint64_t *number) noexcept:
    cdef int byte, size
    if at is NULL or at >= end:
        return NULL
    if at[0] <= 0x7F:
        number[0] = at[0]
        return at + 1
    if not 0xCC <= at[0] <= 0xCF:
        return NULL
    size = 1 << (at[0] - 0xCC)
    if end - at - 1 < size:
        return NULL
    number[0] = 0
    for byte in range(size):
        number[0] = number[0] << 8 | at[1 + byte]
    return at + 1 + size


cdef const uint8_t *_count(const uint8_t *at, const uint8_t *end, uint8_t few, uint8_t many, uint64_t *count) noexcept:
    """The head of an array or a map."""
    if at is NULL or at >= end:
        return NULL
    if (at[0] & 0xF0) == few:
        count[0] = at[0] & 0x0F
        return at + 1
    if at[0] == many and end - at >= 3:
        count[0] = <uint64_t>at[1] << 8 | at[2]
        return at + 3
    if at[0] == many + 1 and end - at >= 5:
        count[0] = <uint64_t>at[1] << 24 | <uint64_t>at[2] << 16 | <uint64_t>at[3] << 8 | at[4]
        return at + 5
    return NULL


cdef inline const uint8_t *_array(const uint8_t *at, const uint8_t *end, uint64_t *count) noexcept:
    return _count(at, end, 0x90, 0xDC, count)


cdef inline const uint8_t *_map(const uint8_t *at, const uint8_t *end, uint64_t *count) noexcept:
    return _count(at, end, 0x80, 0xDE, count)


cdef struct Headers:
    # The headers of a view's rows.
    const uint8_t *at
    Py_ssize_t rows
    Py_ssize_t kept  # bytes of each that stand there
    const uint8_t *rest  # what stands behind each of them that is not of zeros
    bint is_whole  # whether nothing stands behind the last one


cdef const uint8_t *_view(const uint8_t *at, const uint8_t *end, Span *name, Headers *headers) noexcept:
    """What a record says of one view."""
    cdef uint64_t count
    cdef Span kept, rest
    at = _array(at, end, &count)
    if at is NULL or count != 3:
        return NULL
    at = _bin(_bin(_str(at, end, name), end, &kept), end, &rest)
    if at is NULL or rest.size >= HEADER:
        return NULL
    headers.at, headers.kept, headers.rest = kept.at, HEADER - rest.size, rest.at
    headers.rows = kept.size // headers.kept
    headers.is_whole = headers.rows * headers.kept == kept.size
    return NULL if rest.size and not headers.is_whole else at


cdef bint _is_text(const Span *text) noexcept:
    """Whether it is UTF-8."""
    cdef Py_ssize_t at
    for at in range(text.size):
        if text.at[at] > 0x7F:
            break
    else:
        return True
    try:
        PyUnicode_DecodeUTF8(<const char *>text.at, text.size, NULL)
    except UnicodeDecodeError:
        return False
    return True


# Protobuf: tags of one byte, which all fields of ours have.

cdef inline const uint8_t *_varint(const uint8_t *at, const uint8_t *end, uint64_t *number) noexcept:
    cdef int shift
    number[0] = 0
    for shift in range(0, 63, 7):
        if at >= end:
            return NULL
        number[0] |= <uint64_t>(at[0] & 0x7F) << shift
        at += 1
        if at[-1] < 0x80:
            return at
    return NULL


cdef inline const uint8_t *_delimited(const uint8_t *at, const uint8_t *end, Span *found) noexcept:
    """What follows a tag of wire type 2."""
    cdef uint64_t size
    if at < end and at[0] < 0x80:
        size = at[0]
        at += 1
    else:
        at = _varint(at, end, &size)
    if at is NULL or size > <uint64_t>(end - at):
        return NULL
    found.at, found.size = at, <Py_ssize_t>size
    return at + size


cdef bint _is_text_list(const Span *message) noexcept:
    """Whether it is a message of nothing but `repeated string val = 1`."""
    cdef const uint8_t *at = message.at
    cdef const uint8_t *end = at + message.size
    cdef Span text
    while at < end:
        if at[0] != 0x0A:
            return False
        at = _delimited(at + 1, end, &text)
        if at is NULL or not _is_text(&text):
            return False
    return True


cdef bint _is_tag(const Span *entry) noexcept:
    """Whether it is an entry of a map of strings to strings."""
    cdef const uint8_t *at = entry.at
    cdef const uint8_t *end = at + entry.size
    cdef Span text
    while at < end:
        if at[0] != 0x0A and at[0] != 0x12:
            return False
        at = _delimited(at + 1, end, &text)
        if at is NULL or not _is_text(&text):
            return False
    return True


cdef bint _is_numbers(const Span *message) noexcept:
    """Whether it is a message of varints with the numbers 1 and 2, as a Duration is."""
    cdef const uint8_t *at = message.at
    cdef const uint8_t *end = at + message.size
    cdef uint64_t number
    while at < end:
        if at[0] != 0x08 and at[0] != 0x10:
            return False
        at = _varint(at + 1, end, &number)
        if at is NULL:
            return False
    return True


cdef class Frames:
    """See `python_plain.Frames`."""

    cdef readonly Py_ssize_t count
    cdef readonly Py_ssize_t end
    cdef readonly int64_t first_sequence
    cdef object segment
    cdef Py_buffer content
    cdef bint is_held
    cdef _Buffer spans  # of the payloads

    def __init__(self, content not None, *, uint32_t seed, int64_t first_sequence, Py_ssize_t begin):
        if self.segment is not None:
            raise TypeError("this has a segment already")
        PyObject_GetBuffer(content, &self.content, PyBUF_SIMPLE)
        self.segment, self.is_held = content, True
        self.spans, self.first_sequence, self.end = _Buffer(), first_sequence, begin
        while self._next(seed):
            self.count += 1

    def __dealloc__(self):
        if self.is_held:
            PyBuffer_Release(&self.content)

    cdef bint _next(self, uint32_t seed) except -1:
        """Take what stands at the end of what was taken; false where it is not the record that must follow."""
        cdef const uint8_t *at = <const uint8_t *>self.content.buf + self.end
        cdef Py_ssize_t left = self.content.len - self.end
        cdef Span payload
        cdef bytes summed
        cdef uint8_t *to
        # Where a payload stands is a number of 31 bits.
        if left < RECORD or self.end > MESSAGE_MAX - RECORD:
            return False
        payload.at, payload.size = at + RECORD, _big_u32(at)
        # The length of a gap or a footer is more than any file has.
        if payload.size > MESSAGE_MAX or payload.size > left - RECORD:
            return False
        if <int64_t>(<uint64_t>_big_u32(at + 8) << 32 | <uint64_t>_big_u32(at + 12)) != self.first_sequence + self.count:
            return False
        summed = PyBytes_FromStringAndSize(NULL, SUMMED_BYTES + payload.size)
        to = <uint8_t *>PyBytes_AS_STRING(summed)
        memcpy(to, at, 4)
        memcpy(to + 4, at + 8, 8 + payload.size)
        if <uint32_t>_extend(seed, summed) != <uint32_t>_big_u32(at + 4):
            return False
        self.spans.put(&payload, sizeof(Span))
        self.end += RECORD + payload.size
        return True

    cdef Span _payload(self, Py_ssize_t at) except *:
        return (<const Span *>self.spans.data)[_within(at, self.count)]

    def payload(self, Py_ssize_t at):
        """See `python_plain.Frames.payload`."""
        cdef Span payload = self._payload(at)
        return PyBytes_FromStringAndSize(<const char *>payload.at, payload.size)


cdef class Reader:
    """See `python_plain.Reader`."""

    cdef readonly list kinds
    cdef readonly list tags
    cdef readonly int64_t served_at_micros
    cdef readonly bint has_answer
    cdef readonly Py_ssize_t stored_rows
    cdef Span payload
    cdef bint is_there  # whether something was read
    cdef bytes copied  # the payload itself, or
    cdef Frames frames  # where it stands
    cdef bytes unfolded  # the answer, where it was folded
    cdef int rpc
    cdef int32_t kind
    cdef int32_t tag
    cdef Span lookup_id, request_id, rows, request, response
    cdef dict kind_numbers, tag_numbers
    cdef bytes last_kind, last_tags
    cdef int32_t last_kind_number, last_tag_number

    def __init__(self):
        self.kinds, self.tags, self.kind_numbers, self.tag_numbers = [], [], {}, {}
        self.last_kind = self.last_tags = b""
        self.last_kind_number = self.last_tag_number = -1

    def kind_number(self, bytes kind not None):
        """See `python_plain.Reader.kind_number`."""
        return _number_of(kind, self.kind_numbers, self.kinds)

    def tags_number(self, bytes tags not None):
        """See `python_plain.Reader.tags_number`."""
        return _number_of(tags, self.tag_numbers, self.tags)

    def read(self, bytes payload not None):
        """See `python_plain.Reader.read`."""
        self.payload = _span_of(payload)
        return self._read(payload, None)

    def read_frame(self, Frames frames not None, Py_ssize_t at):
        """See `python_plain.Reader.read_frame`."""
        self.payload = frames._payload(at)
        return self._read(None, frames)

    cdef int32_t _read(self, bytes payload, Frames frames) except -2:
        cdef const uint8_t *at = self.payload.at
        cdef const uint8_t *end = at + self.payload.size
        cdef const uint8_t *tags
        cdef const uint8_t *kind
        cdef uint64_t number, count
        cdef Span text, repeats
        cdef Headers headers
        self.is_there, self.copied, self.frames = False, payload, frames
        # Which is not how one begins of which rows were erased.
        if end - at < PyBytes_GET_SIZE(BEGINS) + ID_BYTES:
            return -1
        if memcmp(at, PyBytes_AS_STRING(BEGINS), PyBytes_GET_SIZE(BEGINS)) != 0:
            return -1
        self.lookup_id.at, self.lookup_id.size = at + PyBytes_GET_SIZE(BEGINS), ID_BYTES
        at = _uint(self.lookup_id.at + ID_BYTES, end, &number)
        if at is NULL or number >= END_MICROS:
            return -1
        self.served_at_micros = <int64_t>number
        at = _str(at, end, &text)
        if at is NULL:
            return -1
        if text.size == 5 and memcmp(text.at, b"feast", 5) == 0:
            self.rpc = FEAST
        elif text.size == 8 and memcmp(text.at, b"hindcast", 8) == 0:
            self.rpc = HINDCAST
        elif text.size == 6 and memcmp(text.at, b"stream", 6) == 0:
            self.rpc = STREAM
        else:
            return -1
        tags = _str(at, end, &self.request_id)
        at = _map(tags, end, &count)
        while at is not NULL and count:
            at = _str(_str(at, end, &text), end, &text)
            count -= 1
        kind = at
        at = _array(_str(_str(at, end, &text), end, &text), end, &count)
        while at is not NULL and count:
            at = _str(at, end, &text)
            count -= 1
        at = _uint(_str(at, end, &text), end, &number)
        at = _str(_str(at, end, &text), end, &text)
        if at is NULL or number > MESSAGE_MAX:
            return -1
        self._note(kind, at, tags)
        self.rows.at = at
        at = _array(at, end, &count)
        self.stored_rows = -1
        while at is not NULL and count:
            at = _view(at, end, &text, &headers)
            if at is not NULL and self.stored_rows < 0:
                self.stored_rows = headers.rows
            count -= 1
        if at is NULL:
            return -1
        self.rows.size = at - self.rows.at
        at = _bin(_bin(_bin(_passed_computed(at, end), end, &repeats), end, &self.request), end, &self.response)
        if at != end:
            return -1
        self.unfolded = None
        if repeats.size:
            if not self._unfold(&repeats):
                return -1
        self.has_answer = self.response.size > 0
        self.is_there = True
        return self.kind

    cdef int _look(self) except -1:
        if not self.is_there:
            raise ValueError("nothing was read")
        return 0

    cdef _note(self, const uint8_t *kind, const uint8_t *kind_end, const uint8_t *tags):
        """Number what many records have in common."""
        cdef Py_ssize_t size = kind_end - kind
        cdef bytes key
        cdef uint8_t *to
        if not (
            size + 1 == PyBytes_GET_SIZE(self.last_kind)
            and <uint8_t>PyBytes_AS_STRING(self.last_kind)[0] == self.rpc
            and memcmp(PyBytes_AS_STRING(self.last_kind) + 1, kind, size) == 0
        ):
            key = PyBytes_FromStringAndSize(NULL, size + 1)
            to = <uint8_t *>PyBytes_AS_STRING(key)
            to[0] = <uint8_t>self.rpc
            memcpy(to + 1, kind, size)
            self.last_kind, self.last_kind_number = key, self.kind_number(key)
        self.kind = self.last_kind_number
        size = kind - tags
        if size != PyBytes_GET_SIZE(self.last_tags) or memcmp(PyBytes_AS_STRING(self.last_tags), tags, size) != 0:
            key = PyBytes_FromStringAndSize(<const char *>tags, size)
            self.last_tags, self.last_tag_number = key, self.tags_number(key)
        self.tag = self.last_tag_number

    cdef bint _unfold(self, const Span *repeats) except -1:
        """Put back what was taken out of the answer; false where that does not fit."""
        cdef Py_ssize_t size = self.response.size, at, taken = 0, filled = 0, repeat, source, count
        cdef uint8_t *whole
        if repeats.size % 12:
            return False
        for repeat in range(0, repeats.size, 12):
            size += _big_u32(repeats.at + repeat + 8)
        if size > MESSAGE_MAX:
            return False
        self.unfolded = PyBytes_FromStringAndSize(NULL, size)
        whole = <uint8_t *>PyBytes_AS_STRING(self.unfolded)
        for repeat in range(0, repeats.size, 12):
            at = _big_u32(repeats.at + repeat)
            source = _big_u32(repeats.at + repeat + 4)
            count = _big_u32(repeats.at + repeat + 8)
            if at < filled or at - filled > self.response.size - taken or source + count > at:
                return False
            memcpy(whole + filled, self.response.at + taken, at - filled)
            taken += at - filled
            memcpy(whole + at, whole + source, count)
            filled = at + count
        memcpy(whole + filled, self.response.at + taken, self.response.size - taken)
        self.response.at, self.response.size = whole, size
        return True


cdef inline Py_ssize_t _big_u32(const uint8_t *at) noexcept:
    return <Py_ssize_t>at[0] << 24 | <Py_ssize_t>at[1] << 16 | <Py_ssize_t>at[2] << 8 | at[3]


cdef const uint8_t *_passed_computed(const uint8_t *at, const uint8_t *end) noexcept:
    """Behind a map of maps of arrays of bytes."""
    cdef uint64_t views, columns, values
    cdef Span passed
    at = _map(at, end, &views)
    while at is not NULL and views:
        at = _map(_str(at, end, &passed), end, &columns)
        while at is not NULL and columns:
            at = _array(_str(at, end, &passed), end, &values)
            while at is not NULL and values:
                at = _bin(at, end, &passed)
                values -= 1
            columns -= 1
        views -= 1
    return at


cdef int32_t _number_of(bytes key, dict numbers, list keys) except -1:
    number = numbers.get(key)
    if number is None:
        number = numbers[key] = len(keys)
        keys.append(key)
    return number


cdef class Heads:
    """See `python_plain.Heads`."""

    cdef readonly Py_ssize_t count
    cdef bint keeps_payloads
    cdef _Buffer lookup_ids, served, sequences, rows, stored, kinds, tags, request_ends, request_ids
    cdef _Buffer views, copies  # of payloads
    cdef list segments  # in which others stand, which are not copied

    def __init__(self, *, bint keeps_payloads):
        self.keeps_payloads = keeps_payloads
        self.lookup_ids, self.served, self.sequences, self.rows = _Buffer(), _Buffer(), _Buffer(), _Buffer()
        self.stored, self.kinds, self.tags = _Buffer(), _Buffer(), _Buffer()
        self.request_ends, self.request_ids = _Buffer(), _Buffer()
        self.views, self.copies, self.segments = _Buffer(), _Buffer(), []
        self.request_ends.put_i32(0)

    def add_plain(self, Reader reader not None, int64_t sequence, int32_t rows):
        """See `python_plain.Heads.add_plain`."""
        reader._look()
        self._add(&reader.lookup_id, reader.served_at_micros, sequence, rows, <int32_t>reader.stored_rows, reader.kind, reader.tag,
                  &reader.request_id, &reader.payload, reader.frames)

    def add(self, *, bytes lookup_id not None, int64_t served_at_micros, int64_t sequence, int32_t rows, int32_t stored_rows,
            int32_t kind, int32_t tags, bytes request_id not None, bytes payload not None):
        """See `python_plain.Heads.add`."""
        cdef Span id_span = _span_of(lookup_id), request_span = _span_of(request_id), payload_span = _span_of(payload)
        if id_span.size != ID_BYTES:
            raise ValueError("a lookup's id has 16 bytes")
        self._add(&id_span, served_at_micros, sequence, rows, stored_rows, kind, tags, &request_span, &payload_span, None)

    cdef _add(self, const Span *lookup_id, int64_t served, int64_t sequence, int32_t rows, int32_t stored_rows, int32_t kind,
              int32_t tags, const Span *request_id, const Span *payload, Frames frames):
        if self.request_ids.size + request_id.size > MESSAGE_MAX or self.copies.size + payload.size > MESSAGE_MAX:
            raise OverflowError("more than 2 GiB of records")
        self.lookup_ids.put(lookup_id.at, ID_BYTES)
        self.served.put_i64(served)
        self.sequences.put_i64(sequence)
        self.rows.put_i32(rows)
        self.stored.put_i32(stored_rows)
        self.kinds.put_i32(kind)
        self.tags.put_i32(tags)
        self.request_ids.put(request_id.at, request_id.size)
        self.request_ends.put_i32(<int32_t>self.request_ids.size)
        if self.keeps_payloads:
            self._put_view(payload, frames)
        self.count += 1

    cdef _put_view(self, const Span *payload, Frames frames):
        """As Arrow has it: the size, and up to 12 bytes themselves, or the first four, which buffer, and where there."""
        self.views.put_i32(<int32_t>payload.size)
        if payload.size <= VIEW_INLINE_MAX:
            self.views.put(payload.at, payload.size)
            self.views.put_zeros(VIEW_INLINE_MAX - payload.size)
            return
        self.views.put(payload.at, 4)
        if frames is None:
            self.views.put_i32(0)
            self.views.put_i32(<int32_t>self.copies.size)
            self.copies.put(payload.at, payload.size)
            return
        if not self.segments or self.segments[len(self.segments) - 1] is not frames.segment:
            self.segments.append(frames.segment)
        self.views.put_i32(<int32_t>len(self.segments))
        self.views.put_i32(<int32_t>(payload.at - <const uint8_t *>frames.content.buf))

    def take(self):
        """See `python_plain.Heads.take`."""
        return {
            "lookup_ids": self.lookup_ids.take(),
            "served": self.served.take(),
            "sequences": self.sequences.take(),
            "rows": self.rows.take(),
            "stored": self.stored.take(),
            "kinds": self.kinds.take(),
            "tags": self.tags.take(),
            "request_ends": self.request_ends.take(),
            "request_ids": self.request_ids.take(),
        }

    def take_payloads(self):
        """See `python_plain.Heads.take_payloads`."""
        return self.views.take(), [self.copies.take(), *self.segments]


cdef inline Span _span_of(bytes content):
    cdef Span span
    span.at, span.size = <const uint8_t *>PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content)
    return span


cdef class _Column:
    """Serialized Values of several answers."""

    cdef _Buffer content, lengths, statuses

    def __cinit__(self):
        self.content, self.lengths, self.statuses = _Buffer(), _Buffer(), _Buffer()

    cdef int put(self, const uint8_t *value, Py_ssize_t size) except -1:
        if self.content.room - self.content.size < size:
            self.content.reserve(size)
        if size == 9:  # a double: most values are
            memcpy(self.content.data + self.content.size, value, 9)
        else:
            memcpy(self.content.data + self.content.size, value, size)
        self.content.size += size
        if self.lengths.room - self.lengths.size < 4:
            self.lengths.reserve(4)
        (<int32_t *>(self.lengths.data + self.lengths.size))[0] = <int32_t>size
        self.lengths.size += 4
        return 0


cdef class Answers:
    """See `python_plain.Answers`."""

    cdef readonly Py_ssize_t rows
    cdef list features, inputs, headers, views, input_names, aliases, alias_inputs
    cdef list found_names  # of the columns of a request, to see that none comes twice
    cdef _Buffer columns  # the spans of an answer's columns
    cdef _Buffer sent  # the span of what was sent, by input

    def __init__(self, Py_ssize_t features, *, list views not None, list inputs not None, list aliases not None):
        if features < 1:
            raise ValueError("an answer has columns")
        self.features = [_Column() for _ in range(features)]
        self.inputs = [_Column() for _ in inputs]
        self.headers = [_Buffer() for _ in views]
        self.views, self.input_names = views, inputs
        self.aliases, self.alias_inputs = [name for name, _ in aliases], [at for _, at in aliases]
        for at in self.alias_inputs:
            if not 0 <= at < len(inputs):
                raise IndexError(at)
        self.columns, self.sent = _Buffer(), _Buffer()

    def add_plain(self, Reader reader not None):
        """See `python_plain.Answers.add_plain`."""
        reader._look()
        return self._add_plain(reader)

    def add_run(self, Reader reader not None, Frames frames not None, Py_ssize_t at, *, Heads heads not None,
                Heads records not None, Py_ssize_t payload_bytes_max):
        """See `python_plain.Answers.add_run`."""
        cdef Py_ssize_t begin = at, before = self.rows, rows, payload_bytes = 0
        cdef int32_t kind = reader.read_frame(frames, at)
        cdef int64_t day, sequence
        if kind < 0:
            return 0, 0, 0
        day = reader.served_at_micros // DAY_MICROS
        while reader.has_answer:
            rows = self._add_plain(reader)
            if rows < 0:
                break
            sequence = frames.first_sequence + at
            heads.add_plain(reader, sequence, <int32_t>rows)
            records.add_plain(reader, sequence, <int32_t>rows)
            payload_bytes += reader.payload.size
            at += 1
            if at == frames.count or payload_bytes >= payload_bytes_max:
                break
            if reader.read_frame(frames, at) != kind or reader.served_at_micros // DAY_MICROS != day:
                break
        return at - begin, self.rows - before, payload_bytes

    cdef Py_ssize_t _add_plain(self, Reader reader) except -2:
        cdef Span answer, request
        cdef Py_ssize_t wanted = len(self.features), first, at, rows = -1
        cdef const Span *spans
        cdef bint is_feast = reader.rpc == FEAST
        answer, request = reader.response, reader.request
        if reader.rpc == STREAM and not (_only_part(&answer, False) and _only_part(&request, True)):
            return -1
        if not self._find_columns(&answer, is_feast) or not self._find_inputs(&request, is_feast):
            return -1
        first = self.columns.size // <Py_ssize_t>sizeof(Span) - wanted
        if first < 0:
            return -1
        spans = <const Span *>self.columns.data
        for at in range(first):
            if _put_column(&spans[at], is_feast, None, &rows) < 0:
                return -1
        rows = -1
        for at in range(wanted):
            if _put_column(&spans[first + at], is_feast, <_Column>self.features[at], &rows) < 0:
                self._take_back(at + 1)
                return -1
        self._put_inputs(rows)
        self._put_headers(&reader.rows, rows)
        self.rows += rows
        return rows

    def add(self, Py_ssize_t rows, *, values, statuses, inputs, headers):
        """See `python_plain.Answers.add`."""
        cdef _Column column
        cdef bytes value, of_column
        if not (len(values) == len(statuses) == len(self.features) and len(inputs) == len(self.inputs)
                and len(headers) == len(self.headers)):
            raise ValueError("an answer has not the columns of these")
        if any(len(one) != rows for columns in (values, statuses, inputs) for one in columns):
            raise ValueError("columns of one answer differ in length")
        if any(len(one) != rows * HEADER for one in headers):
            raise ValueError("a view has not a header for each row")
        for column, of_feature, of_column in zip(self.features, values, statuses):
            for value in of_feature:
                column.put(<const uint8_t *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
            column.statuses.put(PyBytes_AS_STRING(of_column), rows)
        for column, of_input in zip(self.inputs, inputs):
            for value in of_input:
                column.put(<const uint8_t *>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        for into, of_column in zip(self.headers, headers):
            (<_Buffer>into).put(PyBytes_AS_STRING(of_column), rows * HEADER)
        self.rows += rows

    def take_feature(self, Py_ssize_t at):
        """See `python_plain.Answers.take_feature`."""
        cdef _Column column = self.features[_within(at, len(self.features))]
        return column.content.take(), column.lengths.take(), column.statuses.take()

    def take_input(self, Py_ssize_t at):
        """See `python_plain.Answers.take_input`."""
        cdef _Column column = self.inputs[_within(at, len(self.inputs))]
        return column.content.take(), column.lengths.take()

    def take_headers(self, Py_ssize_t at):
        """See `python_plain.Answers.take_headers`."""
        return (<_Buffer>self.headers[_within(at, len(self.headers))]).take()

    cdef int _take_back(self, Py_ssize_t features) except -1:
        """Of the first columns what an answer has put there, which all others do not have."""
        cdef _Column column
        cdef Py_ssize_t at, value, size
        cdef const int32_t *lengths
        for at in range(features):
            column = self.features[at]
            lengths = <const int32_t *>column.lengths.data
            size = 0
            for value in range(self.rows, column.lengths.size // 4):
                size += lengths[value]
            column.content.size -= size
            column.lengths.size = self.rows * 4
            column.statuses.size = self.rows
        return 0

    cdef bint _find_columns(self, const Span *answer, bint is_feast) except -1:
        """Where the columns of an answer are."""
        cdef const uint8_t *at = answer.at
        cdef const uint8_t *end = at + answer.size
        cdef uint8_t tag
        cdef Span part
        cdef uint64_t number
        self.columns.size = 0
        while at < end:
            tag = at[0]
            if is_feast and tag == 0x18:
                at = _varint(at + 1, end, &number)
                if at is NULL:
                    return False
                continue
            if tag > 0x2A or (tag & 7) != 2:
                return False
            at = _delimited(at + 1, end, &part)
            if at is NULL:
                return False
            if tag == (0x12 if is_feast else 0x2A):
                self.columns.put(&part, sizeof(Span))
            elif is_feast:
                if tag != 0x0A:
                    return False
            elif tag == 0x0A or tag == 0x12:
                if not _is_text(&part):
                    return False
            elif tag == 0x22:
                if not _is_view_rows(&part):
                    return False
            elif tag != 0x1A:
                return False
        return True

    cdef bint _find_inputs(self, const Span *request, bint is_feast) except -1:
        """Where the columns that were sent are, by input."""
        cdef const uint8_t *at = request.at
        cdef const uint8_t *end = at + request.size
        cdef uint8_t tag
        cdef Span part
        cdef uint64_t number
        self.sent.size = 0
        self.sent.put_zeros(<Py_ssize_t>sizeof(Span) * (len(self.inputs) + len(self.aliases)))
        self.found_names = []
        while at < end:
            tag = at[0]
            if tag == (0x20 if is_feast else 0x28) or (is_feast and tag == 0x30):
                at = _varint(at + 1, end, &number)
                if at is NULL:
                    return False
                continue
            if tag > 0x3A or (tag & 7) != 2:
                return False
            at = _delimited(at + 1, end, &part)
            if at is NULL:
                return False
            if tag == 0x1A or tag == (0x2A if is_feast else 0x22):
                if not self._find_input(&part):
                    return False
            elif tag == 0x0A or (tag == 0x32 and not is_feast):
                if not _is_text(&part):
                    return False
            elif tag == 0x12:
                if not _is_text_list(&part):
                    return False
            elif tag == 0x3A and not is_feast:
                if not _is_tag(&part):
                    return False
            else:
                return False
        return True

    cdef bint _find_input(self, const Span *entry) except -1:
        """Where a column that was sent is, if it is wanted; false where the entry is of another form, or the name came before."""
        cdef const uint8_t *end = entry.at + entry.size
        cdef const uint8_t *at
        cdef Span name, column
        cdef Span *sent = <Span *>self.sent.data
        cdef Py_ssize_t number
        cdef bytes one
        if entry.size == 0 or entry.at[0] != 0x0A:
            return False
        at = _delimited(entry.at + 1, end, &name)
        if at is NULL or at >= end or at[0] != 0x12 or not _is_text(&name):
            return False
        at = _delimited(at + 1, end, &column)
        if at != end or _values_in(&column) < 0:
            return False
        for one in self.found_names:
            if _is_named(one, &name):
                return False
        self.found_names.append(PyBytes_FromStringAndSize(<const char *>name.at, name.size))
        for number in range(len(self.input_names)):
            if _is_named(self.input_names[number], &name):
                sent[number] = column
        for number in range(len(self.aliases)):
            if _is_named(self.aliases[number], &name):
                sent[len(self.inputs) + number] = column
        return True

    cdef int _put_inputs(self, Py_ssize_t rows) except -1:
        cdef const Span *sent = <const Span *>self.sent.data
        cdef Span column
        cdef _Column into
        cdef Py_ssize_t at, alias
        for at in range(len(self.inputs)):
            into = self.inputs[at]
            column = sent[at]
            for alias in range(len(self.aliases)):
                if column.at is NULL and self.alias_inputs[alias] == at:
                    column = sent[len(self.inputs) + alias]
            if column.at is NULL or _values_in(&column) != rows:
                into.lengths.put_zeros(rows * 4)
            else:
                _put_values(&column, into)
        return 0

    cdef int _put_headers(self, const Span *stored, Py_ssize_t rows) except -1:
        """The headers of each view; zeros where there are not as many as rows."""
        cdef const uint8_t *end = stored.at + stored.size
        cdef const uint8_t *at
        cdef Span name
        cdef Headers headers, found
        cdef uint64_t count
        cdef Py_ssize_t view
        cdef _Buffer into
        for view in range(len(self.views)):
            into = self.headers[view]
            found.rows, found.is_whole = -1, False
            at = _array(stored.at, end, &count)
            while at is not NULL and count:
                at = _view(at, end, &name, &headers)
                if at is not NULL and _is_named(self.views[view], &name):
                    found = headers  # the last, as in a dictionary
                count -= 1
            if found.rows == rows and found.is_whole:
                _put_whole(&found, into)
            else:
                into.put_zeros(rows * HEADER)
        return 0


cdef int _put_whole(const Headers *headers, _Buffer into) except -1:
    cdef uint8_t *to
    cdef const uint8_t *at = headers.at
    cdef Py_ssize_t kept = headers.kept, byte
    if kept == HEADER:
        return into.put(at, headers.rows * HEADER)
    to = into.reserve(headers.rows * HEADER)
    for _ in range(headers.rows):
        memcpy(to, at, kept)
        for byte in range(kept):
            if at[byte] != 0:
                memcpy(to + kept, headers.rest, HEADER - kept)
                break
        else:
            memset(to + kept, 0, HEADER - kept)
        at += kept
        to += HEADER
    into.size += headers.rows * HEADER
    return 0


cdef Py_ssize_t _within(Py_ssize_t at, Py_ssize_t count) except -1:
    if not 0 <= at < count:
        raise IndexError(at)
    return at


cdef inline bint _is_named(bytes name, const Span *found):
    return PyBytes_GET_SIZE(name) == found.size and memcmp(PyBytes_AS_STRING(name), found.at, found.size) == 0


cdef bint _only_part(Span *message, bint is_request) noexcept:
    """Make a message of a stream the one part of it that counts; false where there is more than is expected."""
    cdef const uint8_t *at = message.at
    cdef const uint8_t *end = at + message.size
    cdef Span part, other
    if at >= end or at[0] != 0x0A:
        return False
    at = _delimited(at + 1, end, &part)
    if at is NULL:
        return False
    if is_request and at < end and at[0] == 0x12:
        at = _delimited(at + 1, end, &other)
        if at is NULL or not _is_numbers(&other):
            return False
    if at != end:
        return False
    message[0] = part
    return True


cdef bint _is_view_rows(const Span *message) noexcept:
    cdef const uint8_t *at = message.at
    cdef const uint8_t *end = at + message.size
    cdef uint8_t tag
    cdef Span part
    while at < end:
        tag = at[0]
        if tag != 0x0A and tag != 0x12:
            return False
        at = _delimited(at + 1, end, &part)
        if at is NULL or (tag == 0x0A and not _is_text(&part)):
            return False
    return True


cdef Py_ssize_t _values_in(const Span *column) noexcept:
    """How many values a ValueColumn has; -1 where it is of another form."""
    cdef const uint8_t *at = column.at
    cdef const uint8_t *end = at + column.size
    cdef Span value
    cdef Py_ssize_t count = 0
    while at < end:
        if at[0] != 0x0A:
            return -1
        at = _delimited(at + 1, end, &value)
        if at is NULL:
            return -1
        count += 1
    return count


cdef int _put_values(const Span *column, _Column into) except -1:
    cdef const uint8_t *at = column.at
    cdef const uint8_t *end = at + column.size
    cdef Span value
    while at < end:
        at = _delimited(at + 1, end, &value)
        into.put(value.at, value.size)
    return 0


cdef int _put_column(const Span *message, bint is_feast, _Column into, Py_ssize_t *rows) except -2:
    """Put the values and statuses of a column of an answer into another one, or with None look whether that could be done.

    Args:
        rows: how many there must be; -1 for as many as there are, which it is then.
    Returns:
        0, or -1 where the column is of another form, or has not so many; some of it may have been put by then.
    """
    cdef const uint8_t *at = message.at
    cdef const uint8_t *end = at + message.size
    cdef uint8_t tag
    cdef uint8_t of_values = 0x0A if is_feast else 0x12
    cdef uint8_t of_statuses = 0x12 if is_feast else 0x1A
    cdef Span part, statuses
    cdef uint64_t number
    cdef Py_ssize_t count = 0
    statuses.at, statuses.size = NULL, 0
    while at < end:
        tag = at[0]
        if tag == 0x20 and not is_feast:
            at = _varint(at + 1, end, &number)
            if at is NULL:
                return -1
            continue
        at = _delimited(at + 1, end, &part)
        if at is NULL:
            return -1
        if tag == of_values:
            count += 1
            if into is not None:
                into.put(part.at, part.size)
        elif tag == of_statuses:
            if statuses.at is not NULL:
                return -1
            statuses = part
        elif is_feast:
            if tag != 0x1A:
                return -1
        elif tag != 0x0A or not _is_text(&part):
            return -1
    if into is None:
        return 0
    if rows[0] < 0:
        rows[0] = count
    if count != rows[0] or statuses.size != count:
        return -1
    into.statuses.put(statuses.at, statuses.size)
    return 0


def integers(const uint8_t[::1] content not None, const uint8_t[::1] lengths not None, *, uint8_t tag):
    """See `python_plain.integers`."""
    cdef Py_ssize_t count = lengths.shape[0] // 4, value, at = 0, last, byte
    cdef const int32_t *sizes = <const int32_t *>&lengths[0] if count else NULL
    cdef _Buffer into = _Buffer()
    cdef int64_t *numbers = <int64_t *>into.reserve(count * 8)
    cdef uint64_t number
    cdef int shift
    for value in range(count):
        number = 0
        if sizes[value] != 0:
            last = at + sizes[value] - 1
            if not 2 <= sizes[value] <= 11 or last >= content.shape[0] or content[at] != tag or content[last] > 0x7F:
                return None
            shift = 0
            for byte in range(at + 1, last):
                if content[byte] <= 0x7F:
                    return None
                number |= <uint64_t>(content[byte] & 0x7F) << shift
                shift += 7
            number |= <uint64_t>content[last] << shift
            at = last + 1
        numbers[value] = <int64_t>number
    into.size = count * 8
    return into.take()


def texts(const uint8_t[::1] content not None, const uint8_t[::1] lengths not None, *, uint8_t tag):
    """See `python_plain.texts`."""
    cdef Py_ssize_t count = lengths.shape[0] // 4, value, at = 0, size
    cdef const int32_t *sizes = <const int32_t *>&lengths[0] if count else NULL
    cdef _Buffer ends = _Buffer(), into = _Buffer()
    cdef uint8_t *to = into.reserve(content.shape[0])
    ends.reserve((count + 1) * 4)
    ends.put_i32(0)
    for value in range(count):
        if sizes[value] != 0:
            size = sizes[value] - 2
            if not 0 <= size <= 0x7F or at + 2 + size > content.shape[0] or content[at] != tag or content[at + 1] != size:
                return None
            if size:
                memcpy(to + into.size, &content[at + 2], size)
            into.size += size
            at += 2 + size
        ends.put_i32(<int32_t>into.size)
    return ends.take(), into.take()
