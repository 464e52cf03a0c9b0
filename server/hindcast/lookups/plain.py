"""Where records become columns of bytes: `_plain`, compiled, and `python_plain`, which a machine without a C compiler runs."""

try:
    from hindcast.lookups._plain import Answers, Frames, Heads, Reader, integers, texts
except ModuleNotFoundError:
    from hindcast.lookups.python_plain import Answers, Frames, Heads, Reader, integers, texts

__all__ = ["Answers", "Frames", "Heads", "Reader", "integers", "texts"]
