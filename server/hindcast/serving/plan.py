"""Plans: what one feature service or feature list means under one catalog, worked out once."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hindcast.catalog import Catalog, Field, KeyType, OnDemandView, Projection, View, version_name
from hindcast.errors import SHOWN_MAX, InvalidArgument, UnknownName
from hindcast.online.keys import ENTITYLESS_KEY, entity_key_head, sorted_names
from hindcast.online.layouts import RowsOf
from hindcast.serving.admission import COMPUTED_COST
from hindcast.shadow.v1.shadow_pb2 import FeatureRefs

_VERSION = re.compile("[vV]0*([0-9]+)")
"""A version as Feast reads it in a reference."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the request that holds one join key of a view."""

    name: str
    key_type: KeyType


@dataclass(frozen=True, slots=True)
class EntityColumns:
    """The columns of the request that make one entity key; views of the same columns share their keys.

    Attributes:
        head: an entity key before its values; of a view without entities the whole key.
        keys: positions in the plan's `keys`, in the order that the entity key has them.
    """

    head: bytes
    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """Rows of one view under one projection.

    Attributes:
        name: the projection's: the view's name or its alias.
        entity: position in the plan's `entities`.
        rows_of: what is taken out of each row, in order.
    """

    name: str
    view: View
    entity: int
    rows_of: RowsOf


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: the feature at `feature` of the read at `read`."""

    read: int
    feature: int


@dataclass(frozen=True, slots=True)
class Computation:
    """One on-demand view to run.

    Attributes:
        inputs: by the name that its function sees: where from, and the declared type.
        request_fields: what the caller sends along.
    """

    view: OnDemandView
    inputs: Mapping[str, tuple[Source, int]]
    request_fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring columns of the answer that come from one place: features `start` to `stop` of a read, or of a computation.

    Attributes:
        names: the columns'.
    """

    names: tuple[str, ...]
    read: int | None
    start: int
    stop: int
    computation: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled question.

    Attributes:
        keys: the request columns that entity keys are made of, each as one type.
        entities: the entity keys that the reads need.
        names: the columns of the answer, in order; `runs` says where they come from.
        key_columns: request columns that must be there, with the join key types they are read as.
        request_columns: request-data columns that must be there.
        row_cost: what a row costs, in stored values.
        refs: the references that were asked for; empty for a feature service.
        sample_rate: the share of its lookups that leaves a record.
    """

    reads: tuple[Read, ...]
    keys: tuple[KeyColumn, ...]
    entities: tuple[EntityColumns, ...]
    computations: tuple[Computation, ...]
    names: tuple[str, ...]
    runs: tuple[Run, ...]
    key_columns: Mapping[str, tuple[KeyType, ...]]
    request_columns: Mapping[str, Field]
    row_cost: int
    refs: tuple[str, ...] = ()
    sample_rate: float = 1.0


class Wanted(NamedTuple):
    """What a request asks for: a feature service, or a serialized list of references `view:feature`."""

    service: str | None
    refs_bytes: bytes
    full_names: bool

    def refs(self) -> tuple[str, ...]:
        """The references; empty for a feature service."""
        return tuple(FeatureRefs.FromString(self.refs_bytes).val)


def compile_plan(catalog: Catalog, wanted: Wanted) -> Plan:
    """Work out what a request means.

    Raises:
        UnknownName: a service, view or feature that the catalog does not have.
        InvalidArgument: nothing is asked for, a reference is not `view:feature`, names collide, or a view is not servable.
    """
    draft = _Draft(catalog, full_names=wanted.full_names)
    for projection, features in _selected(catalog, wanted):
        draft.add(projection, features)
    logging = None if wanted.service is None else catalog.services[wanted.service].logging
    return replace(draft.plan(), refs=wanted.refs(), sample_rate=1.0 if logging is None else logging.sample_rate)


def _selected(catalog: Catalog, wanted: Wanted) -> list[tuple[Projection, Sequence[str]]]:
    if wanted.service is not None:
        service = catalog.services.get(wanted.service)
        if service is None:
            raise UnknownName("feature service", wanted.service, _known(catalog.services))
        return [(projection, projection.features) for projection in service.projections]
    refs = wanted.refs()
    if not refs:
        raise InvalidArgument.at(
            "features", "nothing is asked for; name a feature service or `view:feature` references"
        )
    return [_by_reference(at, ref) for at, ref in enumerate(refs)]


def _by_reference(at: int, ref: str) -> tuple[Projection, Sequence[str]]:
    view_name, colon, feature = ref.partition(":")
    if not colon or not view_name.partition("@")[0] or not feature:
        raise InvalidArgument.at(f"features[{at}]", f"{ref[:SHOWN_MAX]!r} is not a reference; write `view:feature`")
    name, _, version = view_name.partition("@")
    if not version or version.lower() == "latest":
        view_name = name  # the newest version is what a view's own name means, too
    elif number := _VERSION.fullmatch(version):
        view_name = version_name(name, number[1])
    return Projection(view_name, view_name, (feature,)), (feature,)


def _known(names: Mapping[str, object]) -> str:
    shown = sorted(names)[:10]
    return f"there are {', '.join(shown)}{', …' if len(names) > len(shown) else ''}" if shown else "there are none"


class _Draft:
    """A plan while features are added to it."""

    def __init__(self, catalog: Catalog, *, full_names: bool) -> None:
        self._catalog = catalog
        self._full_names = full_names
        self._reads: dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[int, Projection]] = {}
        self._features: list[list[str]] = []
        self._computations: dict[str, int] = {}
        self._computed: list[Computation] = []
        self._runs: list[Run] = []
        self._keys: dict[KeyColumn, int] = {}
        self._entities: dict[EntityColumns, int] = {}

    def add(self, projection: Projection, features: Sequence[str]) -> None:
        """Add features of one view or on-demand view to the answer."""
        on_demand = self._catalog.on_demand_views.get(projection.view)
        for feature in features:
            name = f"{projection.name}__{feature}" if self._full_names else feature
            if on_demand is None:
                source = self._read(projection, feature)
                self._answer(Run((name,), source.read, source.feature, source.feature + 1))
            else:
                features_there = [field.name for field in on_demand.fields]
                if feature not in features_there:
                    raise UnknownName("feature", f"{projection.view}:{feature}", _fields(on_demand.fields))
                at = features_there.index(feature)
                self._answer(Run((name,), None, at, at + 1, computation=self._compute(on_demand)))

    def plan(self) -> Plan:
        """The finished plan."""
        names = tuple(name for run in self._runs for name in run.names)
        repeated = [name for name, times in Counter(names).items() if times > 1]
        if repeated:
            hint = "ask for each feature once" if self._full_names else "set full_feature_names, or ask for each once"
            raise InvalidArgument.at("features", f"more than one column would be named {repeated[0]!r}; {hint}")
        reads = tuple(
            self._finished(projection, tuple(features))
            for (_, projection), features in zip(self._reads.values(), self._features, strict=True)
        )
        types: dict[str, tuple[KeyType, ...]] = {}
        for key in self._keys:
            types[key.name] = (*types.get(key.name, ()), key.key_type)
        return Plan(
            reads=reads,
            keys=tuple(self._keys),
            entities=tuple(self._entities),
            computations=tuple(self._computed),
            names=names,
            runs=tuple(self._runs),
            key_columns=types,
            request_columns={
                field.name: field for computation in self._computed for field in computation.request_fields
            },
            row_cost=sum(map(len, self._features))
            + COMPUTED_COST
            * sum(len(computation.inputs) + len(computation.view.fields) for computation in self._computed),
        )

    def _answer(self, column: Run) -> None:
        """Add a column, to the run before it if it goes on where that one stops."""
        if self._runs:
            last = self._runs[-1]
            if (last.read, last.computation, last.stop) == (column.read, column.computation, column.start):
                self._runs[-1] = replace(last, names=last.names + column.names, stop=column.stop)
                return
        self._runs.append(column)

    def _read(self, projection: Projection, feature: str) -> Source:
        view = self._view(projection.view)
        if feature not in {field.name for field in view.fields}:
            raise UnknownName("feature", f"{projection.view}:{feature}", _fields(view.fields))
        key = (projection.view, projection.name, tuple(sorted(projection.join_keys.items())))
        read, _ = self._reads.setdefault(key, (len(self._reads), projection))
        if read == len(self._features):
            self._features.append([])
        features = self._features[read]
        if feature not in features:
            features.append(feature)
        return Source(read, features.index(feature))

    def _view(self, name: str) -> View:
        view = self._catalog.views.get(name)
        if view is not None:
            return view
        reason = self._catalog.unservable.get(name)
        if reason is not None:
            raise InvalidArgument.at("features", f"feature view {name!r} cannot be served: {reason}")
        names = {**self._catalog.views, **self._catalog.on_demand_views}
        versions = {known: None for known in names if known.startswith(name.partition("@")[0] + "@")}
        raise UnknownName("feature view", name, _known(versions if "@" in name and versions else names))

    def _compute(self, view: OnDemandView) -> int:
        known = self._computations.get(view.name)
        if known is not None:
            return known
        short = Counter(feature for source in view.sources for feature in source.features)
        inputs: dict[str, tuple[Source, int]] = {}
        for source in view.sources:
            types = {field.name: field.value_type for field in self._view(source.view).fields}
            for feature in source.features:
                # Feast's classes offer a function both names, whatever the alias; they can make one from the other only
                # if it is not shared.
                name = feature if short[feature] == 1 else f"{source.view.partition('@')[0]}__{feature}"
                inputs[name] = (self._read(source, feature), types[feature])
        self._computations[view.name] = len(self._computed)
        self._computed.append(Computation(view, inputs, view.request_fields))
        return self._computations[view.name]

    def _finished(self, projection: Projection, features: tuple[str, ...]) -> Read:
        view = self._catalog.views[projection.view]
        types = {key.name: KeyType(key.value_type) for key in view.join_keys}
        names = sorted_names(view.join_keys)
        keys = [KeyColumn(projection.join_keys.get(name, name), types[name]) for name in names]
        entity = EntityColumns(
            entity_key_head(names) if names else ENTITYLESS_KEY,
            tuple(self._keys.setdefault(key, len(self._keys)) for key in keys),
        )
        return Read(
            name=projection.name,
            view=view,
            entity=self._entities.setdefault(entity, len(self._entities)),
            rows_of=RowsOf(view.stored_name, features),
        )


def _fields(fields: Sequence[Field]) -> str:
    return _known({field.name: None for field in fields})
