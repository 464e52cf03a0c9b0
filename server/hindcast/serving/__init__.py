"""The serving room: gRPC requests come in, answers from the online store go out.

`supervisor` starts `worker` processes that share a port. A request is read by `question`, worked out by `plan`, looked up by
`lookup`, written by `answer`, all under `handlers`; a push is read by `push` (and `fitting`, value by value) and stored by `ingest`,
under `writes`; `status` says which gRPC code each error is.
"""

from hindcast.serving.supervisor import run

__all__ = ["run"]
