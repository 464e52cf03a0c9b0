"""Feast's compute engine for Hindcast: `batch_engine: {type: hindcast.materialize.plugin.StreamingEngine}`.

So far it is Feast's own local engine under the name that repos should write: it loads the whole range into memory. What
it writes goes through the packed store's newest-wins writer.
"""

from typing import Literal

from feast.infra.compute_engines.local.compute import LocalComputeEngine, LocalComputeEngineConfig


class StreamingEngineConfig(LocalComputeEngineConfig):
    """The `batch_engine` block of `feature_store.yaml`; Feast's local settings mean the same here."""

    type: Literal["hindcast.materialize.plugin.StreamingEngine"] = "hindcast.materialize.plugin.StreamingEngine"


class StreamingEngine(LocalComputeEngine):
    """Materialization from the offline store into the online store."""
