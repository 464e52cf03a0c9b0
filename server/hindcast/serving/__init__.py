"""The serving room: gRPC requests come in, answers from the online store go out.

`supervisor` keeps a `worker` process in each `place`, on one port, after `preflight` has looked; `drain` lets one leave. A request is read by `question`, worked out by `plan`, looked up by
`lookup`, written by `answer`, all under `handlers`; `status` says which gRPC code each error is.
"""

from hindcast.serving.supervisor import run

__all__ = ["run"]
