"""OpenLineage events: that a run began, and how it ended, with what it read and what it made. Off unless somebody asked for it.

Builds of training sets and materializations send them. A thread of its own does the sending, so that no run fails for a lineage server,
or waits for one longer than `FLUSH_SECONDS`. Lies on the lowest layer since rooms that may not import each other send events.
Imports `openlineage` (the extra of that name) when there is something to send.
"""

import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hindcast.errors import HindcastError

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
"""How long the end of a run waits for its events to be taken. A server nearby takes one in some milliseconds."""

_WAITING_MAX = 1_000
"""Events that wait to be sent; later ones are dropped. A run has two."""

_FEAST_DEFAULT = "feast"
"""Feast's name for no namespace: the project's is taken."""

_ENVIRONMENT = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
_ENVIRONMENT_PREFIX = "OPENLINEAGE__TRANSPORT__"
_FILE = "openlineage.yml"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageSettings:
    """Where events go.

    Attributes:
        namespace: of jobs and datasets.
        transport: as the OpenLineage client's configuration has it; None for what the environment or openlineage.yml says.
        is_by_feast: whether the repo's own `openlineage` block turned events on, so that Feast sends some too.
    """

    namespace: str
    transport: Mapping[str, Any] | None = None
    is_by_feast: bool = False


def lineage_settings(
    project: str, block: Mapping[str, Any] | None, *, environment: Mapping[str, str] | None = None
) -> LineageSettings | None:
    """Where a repo's events go; None if nobody asked for any.

    They are on where the block has `enabled: true`, or, without a block, where the environment or a file configures the OpenLineage client.

    Args:
        block: `openlineage` of feature_store.yaml, which is Feast's own.
        environment: of the process; None for this one's.
    """
    environ = os.environ if environment is None else environment
    if environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return None
    if block is not None:
        if not block.get("enabled"):
            return None
        namespace = _namespace(str(block.get("namespace") or ""), project)
        return LineageSettings(namespace=namespace, transport=_transport(block), is_by_feast=True)
    is_asked_for = any(environ.get(name) for name in _ENVIRONMENT) or any(
        name.startswith(_ENVIRONMENT_PREFIX) for name in environ
    )
    if not is_asked_for and not any(
        (folder / _FILE).is_file() for folder in (Path.cwd(), Path("~/.openlineage").expanduser())
    ):
        return None
    return LineageSettings(namespace=_namespace(environ.get("OPENLINEAGE_NAMESPACE", ""), project))


def _namespace(configured: str, project: str) -> str:
    """As Feast's own events are named, so that they are of one graph with ours (feast/openlineage/identity.py)."""
    configured = configured.strip()
    if configured in {"", _FEAST_DEFAULT}:
        return project
    return configured if configured == project or configured.endswith(f"/{project}") else f"{configured}/{project}"


def _transport(block: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """As Feast makes one of its block (feast/openlineage/config.py)."""
    kind = block.get("transport_type")
    if not kind:
        return None
    if kind != "http":
        return {"type": kind, **({"log_file_path": "openlineage_events.json"} if kind == "file" else {})}
    key = block.get("api_key")
    return {
        "type": "http",
        "url": block.get("transport_url"),
        "endpoint": block.get("transport_endpoint") or "api/v1/lineage",
        **({"auth": {"type": "api_key", "apiKey": key}} if key else {}),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What a run read or made.

    Attributes:
        namespace: empty for the run's own.
        fields: name -> type; empty where they are not told.
        source: name and address of what it lies in; the address has no password in it.
        version: which state of it; empty where that is not told.
        rows, bytes, files: that were written; None where that is not told.
    """

    namespace: str = ""
    name: str
    fields: Mapping[str, str]
    source: tuple[str, str]
    version: str = ""
    tags: Mapping[str, str] | None = None
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None


@dataclass(slots=True, kw_only=True)
class LineageRun:
    """A run as it is told. What is put into `inputs` and `outputs` is told with its end.

    Attributes:
        job: its name, the same for every run of the kind.
        kind: of the job: `TRAINING_SET` or `MATERIALIZATION`.
    """

    job: str
    kind: str
    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    state: str
    at: datetime
    run_id: str
    run: LineageRun
    error: str = ""


class Sender:
    """Sends events in their order, in a thread that begins with the first one and ends when there is nothing left to send."""

    def __init__(self, settings: LineageSettings) -> None:
        self._settings = settings
        self._waiting: deque[_Event] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_late = False

    @contextmanager
    def told(self, run: LineageRun) -> Iterator[LineageRun]:
        """Tell that a run begins, and, after the block, that it is complete, or that it failed and why."""
        run_id = str(uuid.uuid4())

        def tell(state: str, error: str = "") -> None:
            self._send(_Event(state=state, at=datetime.now(UTC), run_id=run_id, run=replace(run), error=error))

        tell("START")
        try:
            yield run
        except Exception as error:
            # Another's words can hold anything.
            tell("FAIL", str(error) if isinstance(error, HindcastError) else type(error).__name__)
            raise
        except BaseException:
            tell("ABORT")
            raise
        else:
            tell("COMPLETE")
        finally:
            self._flush()

    def _send(self, event: _Event) -> None:
        with self._changed:
            if len(self._waiting) >= _WAITING_MAX:
                logger.warning("an OpenLineage event (%s of %s) was dropped", event.state, event.run.job)
                return
            self._waiting.append(event)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hindcast-lineage", daemon=True)
                self._thread.start()

    def _flush(self) -> None:
        """Wait a little until all is sent; not again where that was for nothing, as of a run of many views."""
        with self._changed:
            is_done = self._changed.wait_for(lambda: self._thread is None, 0 if self._is_late else FLUSH_SECONDS)
            if not is_done and not self._is_late:
                logger.warning(
                    "OpenLineage events were not taken in %g s; they are sent on as long as this process lives, and nothing waits for them",
                    FLUSH_SECONDS,
                )
            self._is_late = not is_done

    def _run(self) -> None:
        client: Any = None
        while True:
            with self._changed:
                event = self._waiting[0] if self._waiting else None
            if event is None:
                if client is not None:
                    _close(client)
                    client = None
                with self._changed:
                    if not self._waiting:
                        self._thread = None
                        self._changed.notify_all()
                        return
                continue
            try:
                client = client or _client(self._settings)
                client.emit(_encoded(event, self._settings.namespace))
            except ImportError:
                logger.warning(
                    "OpenLineage events are configured, and a library for them is not installed; install hindcast[openlineage], or set "
                    "OPENLINEAGE_DISABLED=true"
                )
            except Exception as error:  # noqa: BLE001 - transports raise what they like, and no run ends by that
                logger.warning(
                    "an OpenLineage event (%s of %s) was not taken: %s",
                    event.state,
                    event.run.job,
                    type(error).__name__,
                )
            with self._changed:
                self._waiting.popleft()


@contextmanager
def told(sender: Sender | None, run: LineageRun) -> Iterator[LineageRun]:
    """`Sender.told`, or nothing where there is no sender."""
    if sender is None:
        yield run
        return
    with sender.told(run):
        yield run


def _client(settings: LineageSettings) -> Any:
    from openlineage.client import OpenLineageClient  # noqa: PLC0415 - an extra

    return OpenLineageClient(config=None if settings.transport is None else {"transport": dict(settings.transport)})


def _close(client: Any) -> None:
    """Some transports have not sent what they took before."""
    try:
        client.close(FLUSH_SECONDS)
    except Exception as error:  # noqa: BLE001 - as when they send; left alone it would end the thread, and nothing would be sent any more
        logger.warning("OpenLineage events may not have been sent: %s", type(error).__name__)


def _encoded(event: _Event, namespace: str) -> Any:
    from openlineage.client import event_v2  # noqa: PLC0415 - an extra
    from openlineage.client.facet_v2 import error_message_run, job_type_job, processing_engine_run  # noqa: PLC0415

    release = version("hindcast")
    run_facets: dict[str, Any] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(version=release, name="hindcast")
    }
    if event.error:
        run_facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=event.error, programmingLanguage="python"
        )
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="HINDCAST", jobType=event.run.kind)
    return event_v2.RunEvent(
        eventType=event_v2.RunState[event.state],
        eventTime=event.at.isoformat(),
        run=event_v2.Run(runId=event.run_id, facets=run_facets),
        job=event_v2.Job(namespace=namespace, name=event.run.job, facets={"jobType": kind}),
        producer=f"urn:hindcast:{release}",
        inputs=[
            event_v2.InputDataset(namespace=one.namespace or namespace, name=one.name, facets=_facets(one))
            for one in event.run.inputs
        ],
        outputs=[
            event_v2.OutputDataset(
                namespace=one.namespace or namespace,
                name=one.name,
                facets=_facets(one),
                outputFacets=_written(one),
            )
            for one in event.run.outputs
        ],
    )


def _facets(dataset: Dataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import (  # noqa: PLC0415 - an extra
        dataset_version_dataset,
        datasource_dataset,
        schema_dataset,
        tags_dataset,
    )

    name, address = dataset.source
    facets: dict[str, Any] = {"dataSource": datasource_dataset.DatasourceDatasetFacet(name=name, uri=address)}
    if dataset.fields:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            fields=[
                schema_dataset.SchemaDatasetFacetFields(name=field, type=kind) for field, kind in dataset.fields.items()
            ]
        )
    if dataset.version:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=dataset.version)
    if dataset.tags:
        facets["tags"] = tags_dataset.TagsDatasetFacet(
            tags=[
                tags_dataset.TagsDatasetFacetFields(key=key, value=value, source="HINDCAST")
                for key, value in dataset.tags.items()
            ]
        )
    return facets


def _written(dataset: Dataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics  # noqa: PLC0415 - an extra

    if dataset.rows is None:
        return {}
    facet = statistics.OutputStatisticsOutputDatasetFacet(
        rowCount=dataset.rows, size=dataset.bytes, fileCount=dataset.files
    )
    return {"outputStatistics": facet}
