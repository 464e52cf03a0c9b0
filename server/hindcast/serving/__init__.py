"""The serving room: gRPC requests come in, answers from the online store go out.

`supervisor` keeps a `worker` process in each `place`, on one port, after `preflight` has looked; `drain` lets one leave; `drops`
deletes rows that were replaced. A request is read by `question`, worked out by `plan`, let in by `admission`, looked up by `lookup` (on-demand views in a
`transform_queue`) and written by `answer`, all under `handlers`; a push is read by `push` (and `fitting`, value by value) and
stored by `ingest`, under `writes`. `rpcs` registers them all, with `metrics` and `tracing` around each; `status` says which
gRPC code each error is.
"""

from hindcast.serving.supervisor import run

__all__ = ["run"]
