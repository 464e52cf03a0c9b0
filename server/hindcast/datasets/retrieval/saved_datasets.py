"""Training sets as Feast's saved data sets: how they are put into the repo's registry, whatever keeps it, and taken out again."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feast import FeatureStore, RepoConfig
from feast.data_format import DeltaFormat, ParquetFormat
from feast.errors import SavedDatasetNotFound
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
from feast.saved_dataset import SavedDataset

from hindcast.catalog.repo import FileRegistry, registry_of
from hindcast.clock import from_micros, system_clock
from hindcast.datasets.registration import PATH, Entry, replace_registry_file
from hindcast.errors import RepoError


def register(entry: Entry, root: Path, config: RepoConfig) -> None:
    """Put a training set into the registry of a repo, so that Feast lists it as a saved data set.

    Raises:
        RepoError: the registry does not take it, or has another data set of that name.
    """
    dataset = _saved_dataset(entry)
    with _writing_registry():
        _change_registry(entry, dataset, root, config)


def unregister(entry: Entry, root: Path, config: RepoConfig) -> None:
    """Take a training set out of the registry again, if it is there.

    Raises:
        RepoError: the registry does not take it.
    """
    with _writing_registry():
        _change_registry(entry, None, root, config)


def _change_registry(entry: Entry, dataset: SavedDataset | None, root: Path, config: RepoConfig) -> None:
    place = registry_of(root, config.registry.model_dump())
    if isinstance(place, FileRegistry):

        def changed(before: bytes) -> bytes | None:
            return _with_dataset(RegistryProto.FromString(before), entry, dataset, project=config.project)

        replace_registry_file(place.path, changed)
        return
    # Opened anew: a registry writes back what it has read, and this repo was opened when the build began.
    registry = FeatureStore(config=config).registry
    try:
        found = registry.get_saved_dataset(entry.name, config.project)
    except SavedDatasetNotFound:
        found = None
    is_other = found is not None and found.tags.get(PATH) != entry.tags[PATH]
    if dataset is not None:
        _refuse_other(entry, is_other=is_other)
        registry.apply_saved_dataset(dataset, config.project)
    elif found is not None and not is_other:
        registry.delete_saved_dataset(entry.name, config.project)


def _saved_dataset(entry: Entry) -> SavedDataset:
    form = DeltaFormat() if entry.is_delta else ParquetFormat()
    dataset = SavedDataset(
        name=entry.name,
        features=list(entry.features),
        join_keys=list(entry.join_keys),
        full_feature_names=entry.full_feature_names,
        storage=SavedDatasetFileStorage(entry.data, file_format=form),
        tags=dict(entry.tags),
        feature_service_name=entry.service or None,
    )
    dataset.created_timestamp = dataset.last_updated_timestamp = from_micros(system_clock())
    dataset.min_event_timestamp, dataset.max_event_timestamp = entry.first, entry.last
    return dataset


def _with_dataset(registry: Any, entry: Entry, dataset: SavedDataset | None, *, project: str) -> bytes | None:
    """A registry as it is to be, with the data set or without; None where it is like that already."""
    at = next(
        (
            number
            for number, one in enumerate(registry.saved_datasets)
            if (one.spec.name, one.spec.project) == (entry.name, project)
        ),
        None,
    )
    is_other = at is not None and registry.saved_datasets[at].spec.tags.get(PATH) != entry.tags[PATH]
    if dataset is not None:
        _refuse_other(entry, is_other=is_other)
        proto = dataset.to_proto()
        proto.spec.project = project
        # Feast's own keeps no time of the last update.
        proto.meta.last_updated_timestamp.FromDatetime(dataset.last_updated_timestamp)
        if at is not None:
            del registry.saved_datasets[at]
        registry.saved_datasets.append(proto)
    elif at is None or is_other:
        return None
    else:
        del registry.saved_datasets[at]
    registry.version_id = str(uuid.uuid4())
    registry.last_updated.GetCurrentTime()
    stored: bytes = registry.SerializeToString()
    return stored


def _refuse_other(entry: Entry, *, is_other: bool) -> None:
    if is_other:
        raise RepoError(
            f"the registry has another saved data set called {entry.name!r}, of another place, which stays; delete that, or build under another name"
        )


@contextmanager
def _writing_registry() -> Iterator[None]:
    try:
        yield
    except RepoError:
        raise
    except Exception as error:
        # Registries in files, databases and behind servers each have errors of their own.
        raise RepoError(
            "the registry does not take the entry of the training set, which Feast does not list therefore; check that it may be written, "
            "and run `hindcast dataset register`"
        ) from error
