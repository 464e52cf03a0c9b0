from collections.abc import Sequence
from typing import Any

# The compiled twin has the types of the Python one, but for the constructor of Cells: only the functions and methods that make
# them are shared.
from hindcast.online.python_codec import Cells as Cells
from hindcast.online.python_codec import HashRow as HashRow
from hindcast.online.python_codec import RowReader as RowReader
from hindcast.online.python_codec import answer_record as answer_record
from hindcast.online.python_codec import cells_of_hashes as cells_of_hashes
from hindcast.online.python_codec import command_words as command_words
from hindcast.online.python_codec import commands_for as commands_for
from hindcast.online.python_codec import fold as fold
from hindcast.online.python_codec import fold_headers as fold_headers
from hindcast.online.python_codec import framed as framed
from hindcast.online.python_codec import picked as picked
from hindcast.online.python_codec import splice_feast as splice_feast
from hindcast.online.python_codec import splice_hindcast as splice_hindcast
from hindcast.online.python_codec import usual_int64s as usual_int64s
from hindcast.online.python_codec import usual_strings as usual_strings

# The other form of this is an Arrow kernel (`pieces.join_by_arrow`); arrays are NumPy's, which no serving process loads.
def run_together(
    parts: Sequence[bytes | tuple[Any, Any, Any]],
    rows: int,
    offsets: Any,
    content: Any,
) -> int: ...
