# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twin of `python_codec`: the same names, the same answers and errors, cell by cell out of the stored bytes.

No value becomes a Python object on its way from a Redis reply into an answer. `tests/contract/test_codec_twins.py` holds the two
to each other; what each name means is said in `python_codec`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from hindcast.errors import StoredDataError
from hindcast.online.field_status import NOT_FOUND as _NOT_FOUND
from hindcast.online.field_status import NULL_VALUE as _NULL_VALUE
from hindcast.online.field_status import OUTSIDE_MAX_AGE as _OUTSIDE_MAX_AGE
from hindcast.online.field_status import PRESENT as _PRESENT
from hindcast.online.row_format import DAMAGED, FORMAT, HEADER_BYTES, SAYS_NULL, WRONG_LENGTH, other_format
from hindcast.online.python_codec import _FOLDED_MAX, _FOLDED_MIN, UnknownSchema
from hindcast.online.times import EARLIEST_MICROS, END_MICROS, EPOCH, timestamp_micros

cdef uint8_t NOT_FOUND = _NOT_FOUND
cdef uint8_t NULL_VALUE = _NULL_VALUE
cdef uint8_t OUTSIDE_MAX_AGE = _OUTSIDE_MAX_AGE
cdef uint8_t PRESENT = _PRESENT
cdef Py_ssize_t HEADER = HEADER_BYTES
cdef uint8_t ROW_FORMAT = FORMAT
cdef bytes EPOCH_BYTES = EPOCH
cdef int64_t EARLIEST_SECOND = EARLIEST_MICROS // 1_000_000
cdef int64_t END_SECOND = END_MICROS // 1_000_000
cdef bytes NULL_BYTES = SAYS_NULL

cdef enum:
    FORMAT_AT = 16
    NULLS_AT = 17
    SCHEMA_AT = 18
    SCHEMA_BYTES = 8

cdef Py_ssize_t CELLS_MAX = 1 << 40  # more than any machine's memory holds, and no overflow


cdef struct Cell:
    const char *start
    uint32_t size


cdef class Cells:
    """See `python_codec.Cells`."""

    cdef readonly Py_ssize_t rows
    cdef readonly Py_ssize_t width
    cdef readonly Py_ssize_t missing
    cdef readonly object oldest_micros
    cdef readonly list statuses
    cdef bint stored
    cdef tuple packed  # the rows as stored, where they are packed
    cdef list owners  # what the cells point into: bytes, and tuples of bytes, which nobody can change under them
    cdef Cell *cells  # column by column
    cdef Cell *row_times
    cdef int64_t *event_micros

    def __cinit__(self, Py_ssize_t rows, Py_ssize_t width):
        if rows < 0 or width < 0:
            raise ValueError("less than no rows or columns")
        if width and rows > CELLS_MAX // width:
            raise MemoryError
        self.rows = rows
        self.width = width
        self.oldest_micros = None
        self.statuses = []
        self.owners = []
        self.cells = <Cell *>calloc(max(rows * width, 1), sizeof(Cell))
        self.row_times = <Cell *>calloc(max(rows, 1), sizeof(Cell))
        self.event_micros = <int64_t *>calloc(max(rows, 1), sizeof(int64_t))
        if self.cells is NULL or self.row_times is NULL or self.event_micros is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.cells)
        free(self.row_times)
        free(self.event_micros)

    @staticmethod
    def of_columns(columns, list statuses not None):
        """See `python_codec.Cells.of_columns`."""
        cdef Py_ssize_t rows = len(columns[0]) if columns else 0
        cdef Cells cells = Cells(rows, len(columns))
        cdef Cell *cell = cells.cells
        for column in columns:
            values = tuple(column)
            cells.owners.append(values)
            if len(values) != rows:
                raise ValueError("columns of one block differ in length")
            for value in values:
                _point(cell, value)
                cell += 1
        cells.statuses = statuses
        return cells

    @property
    def times(self):
        """See `python_codec.Cells.times`."""
        if not self.stored:
            return [b""] * self.rows
        return [_bytes_of(&self.row_times[row]) for row in range(self.rows)]

    def headers(self):
        """See `python_codec.Cells.headers`."""
        cdef bytes headers = PyBytes_FromStringAndSize(NULL, self.rows * HEADER)
        self._put_headers(PyBytes_AS_STRING(headers))
        return headers

    cdef _put_headers(self, char *to):
        cdef Py_ssize_t row
        cdef uint64_t event
        cdef int byte
        if self.packed is not None:
            for row in range(self.rows):
                packed = self.packed[row]
                if packed is None:
                    memset(to, 0, HEADER)
                else:
                    memcpy(to, PyBytes_AS_STRING(<bytes>packed), HEADER)
                    to[NULLS_AT] = 0
                to += HEADER
            return
        memset(to, 0, self.rows * HEADER)
        if self.stored:
            for row in range(self.rows):
                if self.row_times[row].size:
                    event = <uint64_t>self.event_micros[row] ^ (<uint64_t>1 << 63)
                    for byte in range(8):
                        to[byte] = <char>(event >> (56 - 8 * byte) & 0xFF)
                to += HEADER

    def column(self, Py_ssize_t at):
        """See `python_codec.Cells.column`."""
        if not 0 <= at < self.width:
            raise IndexError(at)
        cdef Cell *cell = self.cells + at * self.rows
        return [_bytes_of(&cell[row]) for row in range(self.rows)]

    def judge(self, int64_t oldest_fresh, *, bint keeps_stale):
        """See `python_codec.Cells.judge`."""
        cdef bytes of_rows = PyBytes_FromStringAndSize(NULL, self.rows)
        cdef uint8_t *status = <uint8_t *>PyBytes_AS_STRING(of_rows)
        cdef Py_ssize_t row, column
        cdef bint has_nulls = False
        for row in range(self.rows):
            if self.row_times[row].size == 0:
                status[row] = NOT_FOUND
            elif oldest_fresh != 0 and self.event_micros[row] < oldest_fresh:
                status[row] = OUTSIDE_MAX_AGE
                if not keeps_stale:
                    for column in range(self.width):
                        self.cells[column * self.rows + row].size = 0
            else:
                status[row] = PRESENT
                if not has_nulls:
                    for column in range(self.width):
                        if self.cells[column * self.rows + row].size == 0:
                            has_nulls = True
                            break
        if has_nulls:
            self.statuses = [self._column_statuses(column, status, of_rows) for column in range(self.width)]
        else:
            self.statuses = [of_rows]

    cdef bytes _column_statuses(self, Py_ssize_t column, const uint8_t *of_rows, bytes shared):
        cdef Cell *cell = self.cells + column * self.rows
        cdef bytes own
        cdef uint8_t *status = NULL
        cdef Py_ssize_t row
        for row in range(self.rows):
            if cell[row].size == 0 and of_rows[row] == PRESENT:
                if status is NULL:
                    # Made empty and then filled: a copy of one byte would be the interpreter's own, which all share.
                    own = PyBytes_FromStringAndSize(NULL, self.rows)
                    status = <uint8_t *>PyBytes_AS_STRING(own)
                    memcpy(status, of_rows, self.rows)
                status[row] = NULL_VALUE
        return shared if status is NULL else own


cdef class _Reading:
    """Rows of one schema: `column[i]` is where field i goes, -1 for nowhere."""

    cdef bytes schema_id
    cdef Py_ssize_t fields
    cdef Py_ssize_t *column

    def __cinit__(self, bytes schema_id, Py_ssize_t fields, positions):
        self.schema_id = schema_id
        self.fields = fields
        self.column = <Py_ssize_t *>malloc(max(fields, 1) * sizeof(Py_ssize_t))
        if self.column is NULL:
            raise MemoryError
        for field in range(fields):
            self.column[field] = -1
        for column, position in enumerate(positions):
            if position is not None:
                self.column[<Py_ssize_t>position] = column

    def __dealloc__(self):
        free(self.column)


cdef class RowReader:
    """See `python_codec.RowReader`."""

    cdef Py_ssize_t width
    cdef list readings
    cdef _Reading last

    def __init__(self, Py_ssize_t width):
        self.width = width
        self.readings = []

    def learn(self, bytes schema_id not None, Py_ssize_t fields, positions):
        """See `python_codec.RowReader.learn`."""
        if len(schema_id) != SCHEMA_BYTES or len(positions) != self.width:
            raise ValueError("a schema id has 8 bytes, and every column a position or None")
        wanted = [position for position in positions if position is not None]
        if any(not 0 <= position < fields for position in wanted):
            raise ValueError("a position lies outside the schema")
        if len(set(wanted)) != len(wanted):
            raise ValueError("a position is wanted twice")
        self.readings.append(_Reading(schema_id, fields, positions))

    def read(self, list stored not None):
        """See `python_codec.RowReader.read`."""
        cdef Cells cells = Cells(len(stored), self.width)
        cdef Py_ssize_t row
        cdef int64_t oldest = 0
        cells.stored = True
        cells.packed = tuple(stored)
        for row in range(cells.rows):
            packed = cells.packed[row]
            if packed is None:
                cells.missing += 1
                continue
            self._read_row(cells, row, packed)
            if cells.missing == row or cells.event_micros[row] < oldest:
                oldest = cells.event_micros[row]
        if cells.missing < cells.rows:
            cells.oldest_micros = oldest
        return cells

    cdef _read_row(self, Cells cells, Py_ssize_t row, bytes packed):
        cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(packed)
        cdef const uint8_t *end = start + PyBytes_GET_SIZE(packed)
        cdef const uint8_t *at = start + HEADER
        cdef Cell cell
        cdef Cell *of_row = cells.cells + row
        cdef Py_ssize_t entries, field, column
        cdef uint64_t event = 0
        if end - start < FORMAT_AT + 2 + SCHEMA_BYTES or start[NULLS_AT] > 1:
            raise StoredDataError(DAMAGED)
        if start[FORMAT_AT] != ROW_FORMAT:
            raise StoredDataError(other_format(start[FORMAT_AT]))
        cdef _Reading reading = self._reading(start + SCHEMA_AT)
        if at >= end:
            raise StoredDataError(DAMAGED)
        if 0x90 <= at[0] <= 0x9F:
            entries = at[0] & 0x0F
            at += 1
        elif at[0] == 0xDC and end - at >= 3:
            entries = <Py_ssize_t>at[1] << 8 | at[2]
            at += 3
        elif at[0] == 0xDD and end - at >= 5:
            entries = <Py_ssize_t>at[1] << 24 | <Py_ssize_t>at[2] << 16 | <Py_ssize_t>at[3] << 8 | at[4]
            at += 5
        else:
            raise StoredDataError(DAMAGED)
        if entries == 0:
            raise StoredDataError(DAMAGED)
        at = _entry(at, end, &cells.row_times[row])
        for field in range(entries - 1):
            at = _entry(at, end, &cell)
            if cell.start is NULL and not start[NULLS_AT]:
                raise StoredDataError(DAMAGED)
            if field < reading.fields:
                column = reading.column[field]
                if column >= 0:
                    of_row[column * cells.rows] = cell
        if at != end:
            raise StoredDataError(DAMAGED)
        if entries - 1 != reading.fields or cells.row_times[row].size == 0:
            raise StoredDataError(WRONG_LENGTH)
        for field in range(8):
            event = event << 8 | start[field]
        cells.event_micros[row] = <int64_t>(event ^ (<uint64_t>1 << 63))

    cdef _Reading _reading(self, const uint8_t *schema_id):
        cdef _Reading reading = self.last
        if reading is not None and memcmp(PyBytes_AS_STRING(reading.schema_id), schema_id, SCHEMA_BYTES) == 0:
            return reading
        for reading in self.readings:
            if memcmp(PyBytes_AS_STRING(reading.schema_id), schema_id, SCHEMA_BYTES) == 0:
                self.last = reading
                return reading
        raise UnknownSchema((<const char *>schema_id)[:SCHEMA_BYTES])


cdef const uint8_t *_entry(const uint8_t *at, const uint8_t *end, Cell *cell) except NULL:
    """Read one entry of a row: bytes, or nil, whose cell points nowhere. Gives where the next one begins."""
    cdef Py_ssize_t size, head
    if at >= end:
        raise StoredDataError(DAMAGED)
    if at[0] == 0xC0:
        cell.start = NULL
        cell.size = 0
        return at + 1
    if at[0] == 0xC4 and end - at >= 2:
        size, head = at[1], 2
    elif at[0] == 0xC5 and end - at >= 3:
        size, head = <Py_ssize_t>at[1] << 8 | at[2], 3
    elif at[0] == 0xC6 and end - at >= 5:
        size, head = <Py_ssize_t>at[1] << 24 | <Py_ssize_t>at[2] << 16 | <Py_ssize_t>at[3] << 8 | at[4], 5
    else:
        raise StoredDataError(DAMAGED)
    if end - at - head < size:
        raise StoredDataError(DAMAGED)
    cell.start = <const char *>at + head
    cell.size = <uint32_t>size
    return at + head + size


cdef class HashRow:
    """See `python_codec.HashRow`. One object for all values: 25,000 of them, in each of 16 calls, stayed with the interpreter."""

    cdef Py_ssize_t count
    cdef bytes content  # a length per value, -1 for None, and then the values

    def __init__(self, list values not None):
        cdef Py_ssize_t total = len(values) * sizeof(int32_t), at
        cdef int32_t *size
        cdef char *to
        cdef bytes one, content
        for value in values:
            if value is not None:
                if not PyBytes_CheckExact(value):
                    raise TypeError("a value is not bytes")
                if PyBytes_GET_SIZE(value) > 0x7FFFFFFF:
                    raise OverflowError("a value has more than 2 GiB")
                total += PyBytes_GET_SIZE(value)
        content = PyBytes_FromStringAndSize(NULL, total)
        size = <int32_t *>PyBytes_AS_STRING(content)
        to = <char *>(size + len(values))
        for at in range(len(values)):
            one = values[at]
            if one is None:
                size[at] = -1
            else:
                size[at] = <int32_t>PyBytes_GET_SIZE(one)
                memcpy(to, PyBytes_AS_STRING(one), size[at])
                to += size[at]
        self.count, self.content = len(values), content

    def values(self):
        """See `python_codec.HashRow.values`."""
        cdef const int32_t *size = <const int32_t *>PyBytes_AS_STRING(self.content)
        cdef const char *start = <const char *>(size + self.count)
        cdef Py_ssize_t at
        cdef list found = []
        for at in range(self.count):
            found.append(None if size[at] < 0 else PyBytes_FromStringAndSize(start, size[at]))
            start += max(size[at], 0)
        return found


def cells_of_hashes(list hashes not None, Py_ssize_t start, Py_ssize_t width):
    """See `python_codec.cells_of_hashes`."""
    if start < 0 or width < 0:
        raise ValueError("a view's values begin before the first, or are less than none")
    cdef Cells cells = Cells(len(hashes), width)
    cdef Py_ssize_t row, column, at
    cdef int64_t oldest = 0, event
    cdef HashRow values
    cdef const int32_t *size
    cdef const char *content
    cdef Cell *cell
    cells.stored = True
    for row in range(cells.rows):
        if hashes[row] is None:
            cells.missing += 1
            continue
        values = hashes[row]
        if values.count - start <= width:
            raise ValueError("a hash has too few entries")
        size = <const int32_t *>PyBytes_AS_STRING(values.content)
        if size[start + width] < 0:
            cells.missing += 1
            continue
        cells.owners.append(values.content)
        content = <const char *>(size + values.count)
        for at in range(start):
            content += max(size[at], 0)
        cell = cells.cells + row
        for at in range(start, start + width):
            if size[at] > 0:
                cell.start = content
                cell.size = 0 if _says_null(content, size[at]) else size[at]
                content += size[at]
            cell += cells.rows
        time = PyBytes_FromStringAndSize(content, size[start + width]) or EPOCH_BYTES
        cells.owners.append(time)
        _point(&cells.row_times[row], time)
        event = cells.event_micros[row] = _micros(time)
        if cells.missing == row or event < oldest:
            oldest = event
    if cells.missing < cells.rows:
        cells.oldest_micros = oldest
    return cells


cdef inline bint _says_null(const char *start, Py_ssize_t size) noexcept:
    return size == PyBytes_GET_SIZE(NULL_BYTES) and memcmp(start, PyBytes_AS_STRING(NULL_BYTES), size) == 0


cdef _point(Cell *cell, value):
    """Let a cell point at a bytes object, at nothing if that says null."""
    if not PyBytes_CheckExact(value):
        raise TypeError("a value is not bytes")
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    if size > 0xFFFFFFFF:
        raise OverflowError("a value has more than 4 GiB")
    cell.start = PyBytes_AS_STRING(value)
    cell.size = 0 if _says_null(cell.start, size) else <uint32_t>size


cdef bytes _bytes_of(const Cell *cell):
    return PyBytes_FromStringAndSize(cell.start, cell.size) if cell.size else b""


cdef int64_t _micros(bytes time) except? -1:
    """`timestamp_micros`, without it where the bytes are as protobuf writes them of a time that there is."""
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(time)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(time)
    cdef uint64_t seconds = 0, nanos = 0
    if at < end and at[0] == 0x08:
        at = _varint(at + 1, end, &seconds)
        if at is not NULL and at < end and at[0] == 0x10:
            at = _varint(at + 1, end, &nanos)
    if at == end and nanos < 1_000_000_000 and EARLIEST_SECOND <= <int64_t>seconds < END_SECOND:
        return <int64_t>seconds * 1_000_000 + <int64_t>nanos // 1000
    return timestamp_micros(time)


cdef const uint8_t *_varint(const uint8_t *at, const uint8_t *end, uint64_t *number) noexcept:
    """Where the number ends; NULL if it does not, or has more than 64 bits."""
    cdef int shift = 0
    number[0] = 0
    while at < end and shift < 64:
        if shift == 63 and at[0] > 1:
            return NULL
        number[0] |= <uint64_t>(at[0] & 0x7F) << shift
        if at[0] < 0x80:
            return at + 1
        at += 1
        shift += 7
    return NULL


cdef inline Py_ssize_t _varint_size(uint64_t number) noexcept:
    cdef Py_ssize_t size = 1
    while number > 0x7F:
        number >>= 7
        size += 1
    return size


cdef inline char *_put_varint(char *at, uint64_t number) noexcept:
    while number > 0x7F:
        at[0] = <char>(number & 0x7F | 0x80)
        number >>= 7
        at += 1
    at[0] = <char>number
    return at + 1


cdef inline char *_put_head(char *at, int field, uint64_t size) noexcept:
    """Tag and length of a length-delimited field below 16."""
    at[0] = <char>(field << 3 | 2)
    return _put_varint(at + 1, size)


cdef inline char *_put(char *at, int field, const char *content, Py_ssize_t size) noexcept:
    at = _put_head(at, field, size)
    if size:
        memcpy(at, content, size)
    return at + size


cdef inline Py_ssize_t _size_of(Py_ssize_t content) noexcept:
    return 1 + _varint_size(content) + content


cdef inline Py_ssize_t _size_if_any(Py_ssize_t content) noexcept:
    """Of a field that is left out where it is empty."""
    return _size_of(content) if content else 0


cdef inline char *_put_if_any(char *at, int field, const char *content, Py_ssize_t size) noexcept:
    return _put(at, field, content, size) if size else at


cdef Py_ssize_t _cells_size(const Cell *cells, Py_ssize_t count) noexcept:
    cdef Py_ssize_t size = 0, at
    for at in range(count):
        size += _size_of(cells[at].size)
    return size


cdef char *_put_cells(char *at, int field, const Cell *cells, Py_ssize_t count) noexcept:
    cdef Py_ssize_t cell
    for cell in range(count):
        at = _put(at, field, cells[cell].start, cells[cell].size)
    return at


cdef Cells _given(cells):
    """Cells that are there: to Cython None is of every class."""
    if cells is None:
        raise TypeError("None is no cells")
    return cells


cdef bytes _statuses_of(Cells cells, Py_ssize_t column):
    cdef Py_ssize_t count = len(cells.statuses)
    if count != 1 and count != cells.width:
        raise ValueError("cells have not a status, or one for all, for each column")
    cdef bytes statuses = cells.statuses[0 if count == 1 else column]
    if statuses is None or PyBytes_GET_SIZE(statuses) != cells.rows:
        raise ValueError("a column has not a status for each row")
    return statuses


def splice_feast(bytes metadata not None, list blocks not None, *, bytes statuses not None):
    """See `python_codec.splice_feast`."""
    cdef Py_ssize_t total = _size_if_any(len(metadata)), size, times_size, tail, column, row, start, stop
    cdef Cells cells
    cdef const uint8_t *translated = <const uint8_t *>PyBytes_AS_STRING(statuses)
    cdef const uint8_t *of_column
    cdef list sizes = []
    if len(statuses) != 256:
        raise ValueError("a translation of statuses has 256 bytes")
    for names, found, start, stop, _ in blocks:
        cells = _given(found)
        if not 0 <= start <= stop <= cells.width or len(names) != stop - start:
            raise IndexError("a block lies outside its cells")
        tail = _size_if_any(cells.rows) + _cells_size(cells.row_times, cells.rows)
        for column in range(start, stop):
            size = _cells_size(cells.cells + column * cells.rows, cells.rows) + tail
            sizes.append(size)
            total += _size_of(size)
    cdef bytes answer = PyBytes_FromStringAndSize(NULL, total)
    cdef char *at = PyBytes_AS_STRING(answer)
    at = _put_if_any(at, 1, PyBytes_AS_STRING(metadata), PyBytes_GET_SIZE(metadata))
    cdef char *times_at
    cdef Py_ssize_t result = 0
    for _, found, start, stop, _ in blocks:
        cells = _given(found)
        times_at = NULL
        times_size = 0
        for column in range(start, stop):
            at = _put_head(at, 2, <Py_ssize_t>sizes[result])
            result += 1
            at = _put_cells(at, 1, cells.cells + column * cells.rows, cells.rows)
            of_column = <const uint8_t *>PyBytes_AS_STRING(_statuses_of(cells, column))
            if cells.rows:
                at = _put_head(at, 2, cells.rows)
                for row in range(cells.rows):
                    at[row] = <char>translated[of_column[row]]
                at += cells.rows
            if times_at is NULL:
                times_at = at
                at = _put_cells(at, 3, cells.row_times, cells.rows)
                times_size = at - times_at
            else:
                memcpy(at, times_at, times_size)
                at += times_size
    return answer


cdef enum:
    METADATA_TAG = 0x0A
    RESULT_TAG = 0x12
    REPEAT_BYTES = 12

cdef struct Repeat:
    Py_ssize_t at
    Py_ssize_t source
    Py_ssize_t size

cdef Py_ssize_t FOLDED_MIN = _FOLDED_MIN
cdef Py_ssize_t FOLDED_MAX = _FOLDED_MAX


cdef Py_ssize_t _repeats_of(const uint8_t *begin, const uint8_t *stop, Repeat **found, Py_ssize_t *repeated) except -1:
    """How many repeats an answer has, and their bytes in all; where there are any, the caller frees them."""
    cdef const uint8_t *at = begin
    cdef const uint8_t *before = NULL
    cdef Py_ssize_t before_size = 0, same, results = 0, count = 0
    cdef uint64_t size, tag
    cdef Repeat *repeats
    repeated[0] = 0
    if stop - begin > FOLDED_MAX:
        return 0
    while at < stop:
        at = _short_varint(at, stop, &tag)
        if at is NULL:
            return 0
        at = _short_varint(at, stop, &size)
        if at is NULL or (tag != METADATA_TAG and tag != RESULT_TAG) or size > <uint64_t>(stop - at):
            return 0
        results += tag == RESULT_TAG
        at += size
    repeats = <Repeat *>malloc(max(results, 1) * sizeof(Repeat))
    if repeats is NULL:
        raise MemoryError
    at = begin
    while at < stop:
        at = _short_varint(_short_varint(at, stop, &tag), stop, &size) + size
        if tag != RESULT_TAG:
            continue
        if before is not NULL:
            same = _same_tail(at, before, min(<Py_ssize_t>size, before_size))
            if same >= FOLDED_MIN:
                repeats[count] = Repeat(at - same - begin, before - same - begin, same)
                count += 1
                repeated[0] += same
        before, before_size = at, <Py_ssize_t>size
    if count:
        found[0] = repeats
    else:
        free(repeats)
    return count


cdef char *_put_repeats(char *to, const Repeat *repeats, Py_ssize_t count) noexcept:
    cdef Py_ssize_t position
    for position in range(count):
        to = _put_number(to, repeats[position].at)
        to = _put_number(to, repeats[position].source)
        to = _put_number(to, repeats[position].size)
    return to


cdef char *_put_left(char *to, const uint8_t *begin, const uint8_t *stop, const Repeat *repeats, Py_ssize_t count) noexcept:
    cdef const uint8_t *taken = begin
    cdef const uint8_t *at
    cdef Py_ssize_t position
    for position in range(count):
        at = begin + repeats[position].at
        memcpy(to, taken, at - taken)
        to += at - taken
        taken = at + repeats[position].size
    memcpy(to, taken, stop - taken)
    return to + (stop - taken)


def fold(bytes answer not None):
    """See `python_codec.fold`."""
    cdef const uint8_t *begin = <const uint8_t *>PyBytes_AS_STRING(answer)
    cdef const uint8_t *stop = begin + PyBytes_GET_SIZE(answer)
    cdef Repeat *repeats = NULL
    cdef Py_ssize_t repeated
    cdef Py_ssize_t count = _repeats_of(begin, stop, &repeats, &repeated)
    cdef bytes left, written
    if not count:
        return answer, b""
    try:
        left = PyBytes_FromStringAndSize(NULL, stop - begin - repeated)
        written = PyBytes_FromStringAndSize(NULL, count * REPEAT_BYTES)
        _put_repeats(PyBytes_AS_STRING(written), repeats, count)
        _put_left(PyBytes_AS_STRING(left), begin, stop, repeats, count)
        return left, written
    finally:
        free(repeats)


cdef inline bint _is_zero(const char *at, Py_ssize_t size) noexcept:
    cdef Py_ssize_t byte
    for byte in range(size):
        if at[byte] != 0:
            return False
    return True


cdef Py_ssize_t _kept_of(const char *begin, Py_ssize_t rows, const char **rest) noexcept:
    """How many bytes of each header are kept, and where the rest that all rows share stands; NULL if none is."""
    cdef const char *at
    cdef Py_ssize_t row, kept
    cdef bint alike
    for kept in (8, 16):
        rest[0] = NULL
        alike = True
        for row in range(rows):
            at = begin + row * HEADER
            if _is_zero(at, kept):
                alike = _is_zero(at + kept, HEADER - kept)
            elif rest[0] is NULL:
                rest[0] = at + kept
            else:
                alike = memcmp(rest[0], at + kept, HEADER - kept) == 0
            if not alike:
                break
        if alike and rest[0] is not NULL:
            return kept
    rest[0] = NULL
    return HEADER


cdef char *_put_kept(char *to, const char *begin, Py_ssize_t rows, Py_ssize_t kept) noexcept:
    cdef Py_ssize_t row
    for row in range(rows):
        memcpy(to, begin + row * HEADER, kept)
        to += kept
    return to


def fold_headers(bytes headers not None):
    """See `python_codec.fold_headers`."""
    cdef const char *begin = PyBytes_AS_STRING(headers)
    cdef Py_ssize_t rows = PyBytes_GET_SIZE(headers) // HEADER
    cdef const char *rest
    cdef Py_ssize_t kept = _kept_of(begin, rows, &rest)
    cdef bytes left
    if rest is NULL:
        return headers, b""
    left = PyBytes_FromStringAndSize(NULL, rows * kept)
    _put_kept(PyBytes_AS_STRING(left), begin, rows, kept)
    return left, rest[: HEADER - kept]


cdef struct View:
    const char *rest
    Py_ssize_t kept


cdef inline char *_put_bytes(char *at, bytes content) noexcept:
    memcpy(at, PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content))
    return at + PyBytes_GET_SIZE(content)


cdef inline char *_put_bin(char *at, Py_ssize_t size) noexcept:
    """What stands before bytes in msgpack, in its longest form."""
    at[0] = <char>0xC6
    return _put_number(at + 1, size)


cdef inline int _hex_digit(char digit) noexcept:
    return digit - 48 if digit <= 57 else digit - 87


def answer_record(bytes begins not None, str lookup_id not None, uint64_t served_at_micros, bytes definitions not None, tuple views not None, list cells not None, bytes computed not None, bytes request not None, bytes response not None, *, bint folds):
    """See `python_codec.answer_record`."""
    cdef Py_ssize_t count = len(views), at, rows = 0, header_bytes = 0, total, id_size, repeats_count = 0, repeated = 0
    cdef const uint8_t *answer = <const uint8_t *>PyBytes_AS_STRING(response)
    cdef const uint8_t *stop = answer + PyBytes_GET_SIZE(response)
    cdef const char *id_at = PyUnicode_AsUTF8AndSize(lookup_id, &id_size)
    cdef Cells of_view
    cdef bytes before, payload
    cdef char *headers
    cdef char *header
    cdef char *to
    cdef View *view = NULL
    cdef Repeat *repeats = NULL
    cdef int byte
    if id_size != 36 or len(cells) != count:
        raise ValueError("a lookup id has 36 characters, and each view its cells")
    for found in cells:
        header_bytes += _given(found).rows * HEADER
    headers = <char *>malloc(max(header_bytes, 1))
    view = <View *>malloc(max(count, 1) * sizeof(View))
    try:
        if headers is NULL or view is NULL:
            raise MemoryError
        if folds:
            repeats_count = _repeats_of(answer, stop, &repeats, &repeated)
        total = PyBytes_GET_SIZE(begins) + 16 + 9 + PyBytes_GET_SIZE(definitions) + PyBytes_GET_SIZE(computed)
        header = headers
        for at in range(count):
            of_view, before = cells[at], views[at]
            rows = of_view.rows
            of_view._put_headers(header)
            view[at].rest, view[at].kept = NULL, HEADER
            if rows > 1:
                view[at].kept = _kept_of(header, rows, &view[at].rest)
            total += PyBytes_GET_SIZE(before) + 5 + rows * view[at].kept + 2 + HEADER - view[at].kept
            header += rows * HEADER
        total += 5 + repeats_count * REPEAT_BYTES + 5 + PyBytes_GET_SIZE(request) + 5 + (stop - answer) - repeated
        payload = PyBytes_FromStringAndSize(NULL, total)
        to = _put_bytes(PyBytes_AS_STRING(payload), begins)
        for byte in range(16):
            # Groups of 4, 2, 2, 2 and 6 bytes, with a hyphen between them.
            if byte == 4 or byte == 6 or byte == 8 or byte == 10:
                id_at += 1
            to[byte] = <char>(_hex_digit(id_at[0]) << 4 | _hex_digit(id_at[1]))
            id_at += 2
        to += 16
        to[0] = <char>0xCF
        for byte in range(8):
            to[1 + byte] = <char>(served_at_micros >> (56 - 8 * byte) & 0xFF)
        to = _put_bytes(to + 9, definitions)
        header = headers
        for at in range(count):
            rows = (<Cells>cells[at]).rows
            to = _put_bin(_put_bytes(to, <bytes>views[at]), rows * view[at].kept)
            to = _put_kept(to, header, rows, view[at].kept)
            to[0], to[1] = <char>0xC4, <char>(HEADER - view[at].kept)
            to += 2
            if view[at].rest is not NULL:
                memcpy(to, view[at].rest, HEADER - view[at].kept)
                to += HEADER - view[at].kept
            header += rows * HEADER
        to = _put_bytes(to, computed)
        to = _put_repeats(_put_bin(to, repeats_count * REPEAT_BYTES), repeats, repeats_count)
        to = _put_bytes(_put_bin(to, PyBytes_GET_SIZE(request)), request)
        to = _put_bin(to, (stop - answer) - repeated)
        _put_left(to, answer, stop, repeats, repeats_count)
        return payload
    finally:
        free(repeats)
        free(view)
        free(headers)


cdef inline const uint8_t *_short_varint(const uint8_t *at, const uint8_t *end, uint64_t *number) noexcept:
    """Where a number of at most 35 bits ends; NULL if it is longer, or has no end."""
    cdef int shift
    number[0] = 0
    for shift in range(0, 35, 7):
        if at >= end:
            return NULL
        number[0] |= <uint64_t>(at[0] & 0x7F) << shift
        at += 1
        if at[-1] < 0x80:
            return at
    return NULL


cdef inline Py_ssize_t _same_tail(const uint8_t *end, const uint8_t *other_end, Py_ssize_t most) noexcept:
    """How many bytes before the two ends are the same."""
    cdef Py_ssize_t same = 0
    while same + 64 <= most and memcmp(end - same - 64, other_end - same - 64, 64) == 0:
        same += 64
    while same < most and end[-1 - same] == other_end[-1 - same]:
        same += 1
    return same


cdef inline char *_put_number(char *at, Py_ssize_t number) noexcept:
    """32 bits, big-endian."""
    at[0] = <char>(number >> 24)
    at[1] = <char>(number >> 16)
    at[2] = <char>(number >> 8)
    at[3] = <char>number
    return at + 4


def splice_hindcast(*, str lookup_id not None, str catalog_version not None, bytes served_at not None, list views not None, list blocks not None):
    """See `python_codec.splice_hindcast`."""
    cdef bytes lookup_bytes = lookup_id.encode(), version_bytes = catalog_version.encode()
    cdef Py_ssize_t total = 0, size, name_size, column, start, stop
    cdef Cells cells
    cdef const char *name_at
    cdef list sizes = []
    for part in (lookup_bytes, version_bytes, served_at):
        total += _size_if_any(len(part))
    for view, found in views:
        cells = _given(found)
        PyUnicode_AsUTF8AndSize(view, &name_size)
        size = _size_if_any(name_size) + _cells_size(cells.row_times, cells.rows)
        sizes.append(size)
        total += _size_of(size)
    for names, found, start, stop, view_index in blocks:
        cells = _given(found)
        if not 0 <= start <= stop <= cells.width or len(names) != stop - start:
            raise IndexError("a block lies outside its cells")
        for column in range(start, stop):
            PyUnicode_AsUTF8AndSize(names[column - start], &name_size)
            size = _size_if_any(name_size) + _cells_size(cells.cells + column * cells.rows, cells.rows)
            size += _size_if_any(cells.rows)
            if view_index is not None:
                size += 1 + _varint_size(view_index)
            sizes.append(size)
            total += _size_of(size)
    cdef bytes answer = PyBytes_FromStringAndSize(NULL, total)
    cdef char *at = PyBytes_AS_STRING(answer)
    at = _put_if_any(at, 1, PyBytes_AS_STRING(lookup_bytes), PyBytes_GET_SIZE(lookup_bytes))
    at = _put_if_any(at, 2, PyBytes_AS_STRING(version_bytes), PyBytes_GET_SIZE(version_bytes))
    at = _put_if_any(at, 3, PyBytes_AS_STRING(served_at), PyBytes_GET_SIZE(served_at))
    cdef Py_ssize_t message = 0
    for view, found in views:
        cells = _given(found)
        name_at = PyUnicode_AsUTF8AndSize(view, &name_size)
        at = _put_head(at, 4, <Py_ssize_t>sizes[message])
        message += 1
        at = _put_if_any(at, 1, name_at, name_size)
        at = _put_cells(at, 2, cells.row_times, cells.rows)
    for names, found, start, stop, view_index in blocks:
        cells = _given(found)
        for column in range(start, stop):
            name_at = PyUnicode_AsUTF8AndSize(names[column - start], &name_size)
            at = _put_head(at, 5, <Py_ssize_t>sizes[message])
            message += 1
            at = _put_if_any(at, 1, name_at, name_size)
            at = _put_cells(at, 2, cells.cells + column * cells.rows, cells.rows)
            at = _put_if_any(at, 3, PyBytes_AS_STRING(_statuses_of(cells, column)), cells.rows)
            if view_index is not None:
                at[0] = 0x20
                at = _put_varint(at + 1, view_index)
    return answer


def framed(bytes before not None, parts, bytes after not None):
    """See `python_codec.framed`."""
    cdef Py_ssize_t before_size = PyBytes_GET_SIZE(before), after_size = PyBytes_GET_SIZE(after), size
    cdef bytes whole
    cdef char *at
    cdef list wholes = []
    for part in parts:
        if part is None:
            wholes.append(None)
            continue
        if not PyBytes_CheckExact(part):
            raise TypeError("a part is not bytes")
        size = PyBytes_GET_SIZE(part)
        whole = PyBytes_FromStringAndSize(NULL, before_size + size + after_size)
        at = PyBytes_AS_STRING(whole)
        memcpy(at, PyBytes_AS_STRING(before), before_size)
        memcpy(at + before_size, PyBytes_AS_STRING(part), size)
        memcpy(at + before_size + size, PyBytes_AS_STRING(after), after_size)
        wholes.append(whole)
    return wholes


cdef inline Py_ssize_t _digits(Py_ssize_t number) noexcept:
    cdef Py_ssize_t digits = 1
    while number >= 10:
        number //= 10
        digits += 1
    return digits


cdef char *_put_word(char *at, bytes word) noexcept:
    """A word of a Redis command: what stands before it, and the word."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(word), digits = _digits(size), digit, rest = size
    memcpy(at, b"\r\n$", 3)
    for digit in range(digits):
        at[2 + digits - digit] = <char>(48 + rest % 10)
        rest //= 10
    memcpy(at + 3 + digits, b"\r\n", 2)
    memcpy(at + 5 + digits, PyBytes_AS_STRING(word), size)
    return at + 5 + digits + size


cdef Py_ssize_t _words_size(words) except -1:
    cdef Py_ssize_t total = 0, size
    for word in words:
        if not PyBytes_CheckExact(word):
            raise TypeError("a word is not bytes")
        size = PyBytes_GET_SIZE(word)
        total += 5 + _digits(size) + size
    return total


def command_words(words):
    """See `python_codec.command_words`."""
    cdef tuple kept = tuple(words)
    cdef bytes sent = PyBytes_FromStringAndSize(NULL, _words_size(kept))
    cdef char *at = PyBytes_AS_STRING(sent)
    for word in kept:
        at = _put_word(at, word)
    return sent


def commands_for(bytes before not None, keys, bytes after not None):
    """See `python_codec.commands_for`."""
    cdef tuple kept = tuple(keys)
    cdef Py_ssize_t around = PyBytes_GET_SIZE(before) + PyBytes_GET_SIZE(after)
    cdef bytes sent = PyBytes_FromStringAndSize(NULL, _words_size(kept) + len(kept) * around)
    cdef char *at = PyBytes_AS_STRING(sent)
    for key in kept:
        memcpy(at, PyBytes_AS_STRING(before), PyBytes_GET_SIZE(before))
        at = _put_word(at + PyBytes_GET_SIZE(before), key)
        memcpy(at, PyBytes_AS_STRING(after), PyBytes_GET_SIZE(after))
        at += PyBytes_GET_SIZE(after)
    return sent


def picked(list whole not None, list order not None, positions):
    """See `python_codec.picked`."""
    cdef Py_ssize_t names = len(order), name
    cdef bytes one, other
    if len(whole) != 2 * names:
        return None
    for name in range(names):
        one, other = whole[2 * name], order[name]
        if one is None or other is None:
            return None
        if one is not other and (
            PyBytes_GET_SIZE(one) != PyBytes_GET_SIZE(other)
            or memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other), PyBytes_GET_SIZE(one)) != 0
        ):
            return None
    cdef list values = []
    for position in positions:
        if position is None:
            values.append(None)
            continue
        name = position
        if not 0 <= name < names:
            raise IndexError(position)
        values.append(whole[2 * name + 1])
    return HashRow(values)


cdef inline void _put_u32(char *at, uint32_t number) noexcept:
    at[0] = <char>(number & 0xFF)
    at[1] = <char>(number >> 8 & 0xFF)
    at[2] = <char>(number >> 16 & 0xFF)
    at[3] = <char>(number >> 24 & 0xFF)


def usual_strings(values, uint32_t key_type):
    """See `python_codec.usual_strings`."""
    cdef list parts = []
    cdef const uint8_t *start
    cdef Py_ssize_t size, at
    cdef bytes part
    cdef char *to
    for value in values:
        if not PyBytes_CheckExact(value):
            raise TypeError("a value is not bytes")
        start = <const uint8_t *>PyBytes_AS_STRING(value)
        size = PyBytes_GET_SIZE(value)
        if size < 2 or start[0] != 0x12 or start[1] != size - 2 or size - 2 > 0x7F:
            parts.append(None)
            continue
        for at in range(2, size):
            if start[at] > 0x7F:
                break
        else:
            part = PyBytes_FromStringAndSize(NULL, 8 + size - 2)
            to = PyBytes_AS_STRING(part)
            _put_u32(to, key_type)
            _put_u32(to + 4, <uint32_t>(size - 2))
            memcpy(to + 8, start + 2, size - 2)
            parts.append(part)
            continue
        parts.append(None)
    return parts


def usual_int64s(values, uint32_t key_type):
    """See `python_codec.usual_int64s`."""
    cdef list parts = []
    cdef const uint8_t *start
    cdef const uint8_t *end
    cdef uint64_t number = 0
    cdef bytes part
    cdef char *to
    for value in values:
        if not PyBytes_CheckExact(value):
            raise TypeError("a value is not bytes")
        start = <const uint8_t *>PyBytes_AS_STRING(value)
        end = start + PyBytes_GET_SIZE(value)
        if (
            end - start < 2
            or (start[0] != 0x20 and start[0] != 0x18)
            or _varint(start + 1, end, &number) != end
            or (start[0] == 0x18 and not -(<int64_t>1 << 31) <= <int64_t>number < <int64_t>1 << 31)
        ):
            parts.append(None)
            continue
        part = PyBytes_FromStringAndSize(NULL, 16)
        to = PyBytes_AS_STRING(part)
        _put_u32(to, key_type)
        _put_u32(to + 4, 8)
        _put_u32(to + 8, <uint32_t>(number & 0xFFFFFFFF))
        _put_u32(to + 12, <uint32_t>(number >> 32))
        parts.append(part)
    return parts


cdef struct Piece:
    const int32_t *narrow  # where the entries begin; or the wide ones; or neither, and it is the same for all rows
    const int64_t *wide
    const uint8_t *there  # whether each entry is no null; NULL if none is
    const char *content
    int64_t size


cdef inline bint _find(const Piece *piece, Py_ssize_t row, const char **start, int64_t *size) noexcept nogil:
    """Where a row's entry lies; false where that is not inside the piece."""
    cdef int64_t begin, end
    if piece.narrow is not NULL:
        begin, end = piece.narrow[row], piece.narrow[row + 1]
    elif piece.wide is not NULL:
        begin, end = piece.wide[row], piece.wide[row + 1]
    else:
        begin, end = 0, piece.size
    if piece.there is not NULL and not piece.there[row]:
        begin = end = 0
    start[0] = piece.content + begin
    size[0] = end - begin
    return 0 <= begin <= end <= piece.size


cdef int64_t _put_together(const Piece *pieces, Py_ssize_t count, Py_ssize_t rows, int32_t *narrow, int64_t *wide, char *to, int64_t most) noexcept nogil:
    """How many bytes were put; -1 where a piece lies outside its content, or there is no room."""
    cdef Py_ssize_t row, at
    cdef int64_t put = 0, size
    cdef const char *start
    for row in range(rows):
        if wide is not NULL:
            wide[row] = put
        else:
            narrow[row] = <int32_t>put
        for at in range(count):
            if not _find(&pieces[at], row, &start, &size) or size > most - put:
                return -1
            memcpy(to + put, start, size)
            put += size
    if wide is not NULL:
        wide[rows] = put
    else:
        narrow[rows] = <int32_t>put
    return put


def run_together(list parts not None, Py_ssize_t rows, offsets not None, content not None):
    """The pieces of each row one after the other, for `pieces.join`; the interpreter is free meanwhile.

    Args:
        parts: bytes, the same for all rows; or of n entries n + 1 offsets, the bytes that those lie in, and per entry whether it is
            no null, None if all are.
        offsets: rows + 1, which are filled.
        content: is filled.
    Returns:
        How many bytes of `content`.
    Raises:
        ValueError: a part has not so many entries, lies outside its bytes, or there is no room.
    """
    cdef Py_ssize_t count = len(parts), at
    cdef int64_t put
    cdef int32_t[::1] narrow_to
    cdef int64_t[::1] wide_to
    cdef uint8_t[::1] to = content
    cdef const int32_t[::1] narrow
    cdef const int64_t[::1] wide
    cdef const uint8_t[::1] held
    cdef list kept = []  # the views, whose memory the pieces point into
    cdef bint is_wide = offsets.itemsize == 8
    cdef Piece *pieces
    cdef int32_t *narrow_at = NULL
    cdef int64_t *wide_at = NULL
    if rows < 0:
        raise ValueError("less than no rows")
    if is_wide:
        wide_to = offsets
    else:
        narrow_to = offsets
    if len(offsets) != rows + 1 or (not is_wide and to.shape[0] > 0x7FFFFFFF):
        raise ValueError("there is not an offset for each row, or too much content for it")
    pieces = <Piece *>calloc(max(count, 1), sizeof(Piece))
    if pieces is NULL:
        raise MemoryError
    try:
        for at in range(count):
            part = parts[at]
            if PyBytes_CheckExact(part):
                pieces[at].content = PyBytes_AS_STRING(part)
                pieces[at].size = PyBytes_GET_SIZE(part)
                kept.append(part)
                continue
            ends, entries, there = part
            if len(ends) != rows + 1 or (there is not None and len(there) != rows):
                raise ValueError("a part has not an entry for each row")
            if ends.itemsize == 8:
                wide = ends
                pieces[at].wide = &wide[0]
                kept.append(wide)
            else:
                narrow = ends
                pieces[at].narrow = &narrow[0]
                kept.append(narrow)
            held = entries
            pieces[at].size = held.shape[0]
            if held.shape[0]:
                pieces[at].content = <const char *>&held[0]
            kept.append(held)
            if there is not None and rows:
                held = there
                pieces[at].there = &held[0]
                kept.append(held)
        if is_wide:
            wide_at = &wide_to[0]
        else:
            narrow_at = &narrow_to[0]
        with nogil:
            put = _put_together(pieces, count, rows, narrow_at, wide_at, <char *>&to[0] if to.shape[0] else NULL, to.shape[0])
    finally:
        free(pieces)
    if put < 0:
        raise ValueError("a part lies outside its bytes, or there is no room for all")
    return put
