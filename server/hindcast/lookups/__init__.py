"""The lookups room: a log of what was served. Records come in from serving, and go out to whoever asks what was answered.

`segment` is the format (docs/formats.md), bytes in and bytes out; `directory` says where files stand and what they are called;
`writer` is a worker's log, `disk` the calls of the operating system that it makes, `missing` counts what it lost, `gaps` tells of that, and
`recovery` seals what writers that died have left. `sealer` makes tables of what is closed, by `batch`; `listing` and `receipts` find lookups in both.
"""
