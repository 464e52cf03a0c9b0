"""Feast's compute engine for Hindcast: `batch_engine: {type: hindcast.materialize.plugin.StreamingEngine}`.

So far it is Feast's own local engine under the name that repos should write: it loads the whole range into memory. What
it writes goes through the packed store's newest-wins writer.
"""

from datetime import datetime
from pathlib import Path
from typing import Literal

from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig

from hindcast.errors import NotWritable


class StreamingEngineConfig(LocalComputeEngineConfig):
    """The `batch_engine` block of `feature_store.yaml`; Feast's local settings mean the same here."""

    type: Literal["hindcast.materialize.plugin.StreamingEngine"] = "hindcast.materialize.plugin.StreamingEngine"


class StreamingEngine(LocalComputeEngine):
    """Materialization from the offline store into the online store."""


def replace_view(
    repo_root: Path,  # noqa: ARG001 - the engine that fills a generation comes with the next merge
    view: str,
    start: datetime | None,  # noqa: ARG001
    end: datetime | None,  # noqa: ARG001
    keep_seconds: float,  # noqa: ARG001
) -> None:
    """Fill a view's rows anew in a generation of their own, then serve them.

    Args:
        start, end: closed, aware; None for no bound, and for now.
        keep_seconds: how long the old rows are kept.
    Raises:
        NotWritable: always, as the engine stands.
    """
    raise NotWritable(f"view {view!r} cannot be replaced yet: this engine fills no generation of its own")
