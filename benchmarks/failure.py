"""The one error of the benchmarks."""


class BenchmarkFailed(Exception):
    """Something that was measured did not do its work, so its figures mean nothing; the message says what."""
