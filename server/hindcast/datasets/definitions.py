"""What a training set's features mean: the definitions of its views and on-demand views as they were, and what differs between two of them.

They are recorded whole, so that a set can be made again after the repo has changed. Needs neither Feast nor pyarrow.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import msgspec

PICKLED = "pickled function"
"""The attribute of a function that reads the same, and is pickled as other bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDefinition:
    """Where a view's rows are.

    Attributes:
        kind: `file` or `duckdb`.
        path: as the repo writes it.
        file_format: of files: `parquet` or `delta`; empty for a database.
        table: of a database; empty for files.
        created_timestamp_column: empty where there is none.
        field_mapping: column of the source -> the name that the view has for it.
    """

    name: str
    kind: str
    path: str
    file_format: str = ""
    table: str = ""
    timestamp_field: str
    created_timestamp_column: str = ""
    field_mapping: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A join key, and the column of the entity frame that holds it."""

    name: str
    column: str
    value_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A feature, and the column of the training set that it becomes."""

    name: str
    column: str
    value_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRecord:
    """A view, as far as its values depend on it.

    Attributes:
        name: its own or its alias, with the version where one is pinned.
        features: those that were asked for.
        ttl_micros: 0 for none.
    """

    name: str
    keys: tuple[Key, ...]
    features: tuple[Feature, ...]
    ttl_micros: int
    source: SourceDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemandRecord:
    """An on-demand view.

    Attributes:
        inputs: what its function is given, sorted: `view:feature`, or the name of a column of the frame.
        code: the source text of its function.
        spec: Feast's own form of all of it, in base64; it holds the pickled function.
    """

    name: str
    mode: str
    singleton: bool
    inputs: tuple[str, ...]
    features: tuple[Feature, ...]
    code: str
    spec: str

    @property
    def code_sha256(self) -> str:
        """Of the source text."""
        return hashlib.sha256(self.code.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """All that a set's features mean.

    Attributes:
        service: of which the features are; empty where they were listed.
        refs: `view:feature` each, those among them that only on-demand views need.
    """

    service: str
    refs: tuple[str, ...]
    full_feature_names: bool
    views: tuple[ViewRecord, ...]
    on_demand: tuple[OnDemandRecord, ...]

    @property
    def title(self) -> str:
        """What the list of features is called."""
        return self.service or "features"

    def digests(self) -> dict[str, str]:
        """Name of each view and on-demand view -> SHA-256 of its definition. How Feast pickles a function is no part of it."""
        records: list[ViewRecord | OnDemandRecord] = [*self.views, *(replace(view, spec="") for view in self.on_demand)]
        return {record.name: digest_of(record) for record in records}

    def digest(self) -> str:
        """SHA-256 of all of them."""
        return digest_of(replace(self, on_demand=tuple(replace(view, spec="") for view in self.on_demand)))

    def as_text(self) -> str:
        """All of them as JSON for people and for Git, which is another one if and only if a set might come out as another one.

        Feast's own form of an on-demand view, which is binary, is in it by its SHA-256 (`spec_sha256`).
        """
        shown = msgspec.to_builtins(self)
        for view in shown["on_demand"]:
            view["spec_sha256"] = hashlib.sha256(view.pop("spec").encode()).hexdigest()
        shown["digest"] = f"sha256:{self.digest()}"
        return json.dumps(shown, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTitle:
    """What a source is called, and the views that are read from it."""

    name: str
    path: str
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionChange:
    """One attribute of a definition that is another one now.

    Attributes:
        kind: `definition`, or `transform` for the code of an on-demand view.
        name: of the view, the on-demand view, or the service.
        attribute: for people, such as `ttl`. `PICKLED` alone says nothing: a moved line does it.
        result: all definitions with this change, and those before it, made.
    """

    kind: str
    name: str
    attribute: str
    before: str
    after: str
    result: Definitions


def digest_of(record: object) -> str:
    """SHA-256 of a record's canonical JSON, 64 hex digits."""
    return hashlib.sha256(msgspec.json.encode(record, order="sorted")).hexdigest()


def place_of(source: SourceDefinition) -> tuple[str, str, str, str]:
    """What says which rows a source has; definitions that are equal in it are of one source."""
    return source.kind, source.path, source.table, source.file_format


def title_of(definitions: Definitions, view_name: str) -> SourceTitle:
    """The source of a view."""
    source = next(view.source for view in definitions.views if view.name == view_name)
    shared = [view for view in definitions.views if place_of(view.source) == place_of(source)]
    return SourceTitle(
        name=shared[0].source.name,
        path=f"{source.path}:{source.table}" if source.table else source.path,
        views=tuple(view.name for view in shared),
    )


def source_titles(definitions: Definitions) -> Sequence[SourceTitle]:
    """The sources of all views, each once, in the order in which manifests have them."""
    return list(dict.fromkeys(title_of(definitions, view.name) for view in definitions.views))


def definition_changes(before: Definitions, after: Definitions) -> Iterator[DefinitionChange]:
    """What leads from one to the other, in an order in which it can be made step by step: features, views, on-demand views."""
    now = before
    if _asked(before) != _asked(after):
        then = {view.name: view for view in before.views}
        views = tuple(
            replace(then[view.name], features=view.features) if view.name in then else view for view in after.views
        )
        known = {view.name: view for view in before.on_demand}
        on_demand = tuple(
            replace(known[view.name], features=view.features) if view.name in known else view
            for view in after.on_demand
        )
        now = replace(
            before,
            service=after.service,
            refs=after.refs,
            full_feature_names=after.full_feature_names,
            views=views,
            on_demand=on_demand,
        )
        yield DefinitionChange(
            kind="definition",
            name=before.title,
            attribute="features",
            before=_listed(before, after),
            after=_listed(after, before),
            result=now,
        )
    for at, view in enumerate(after.views):
        for attribute, record, old, new in _view_steps(now.views[at], view):
            now = replace(now, views=(*now.views[:at], record, *now.views[at + 1 :]))
            yield DefinitionChange(
                kind="definition", name=view.name, attribute=attribute, before=old, after=new, result=now
            )
    for at, function in enumerate(after.on_demand):
        found = _function_change(now.on_demand[at], function)
        if found is not None:
            now = replace(now, on_demand=(*now.on_demand[:at], function, *now.on_demand[at + 1 :]))
            kind, attribute, old, new = found
            yield DefinitionChange(
                kind=kind,
                name=function.name,
                attribute=attribute,
                before=old,
                after=new,
                result=now,
            )


def _asked(of: Definitions) -> object:
    features = [(view.name, [(feature.name, feature.column) for feature in view.features]) for view in of.views]
    computed = [(view.name, [feature.column for feature in view.features]) for view in of.on_demand]
    return of.refs, of.full_feature_names, features, computed


def _listed(these: Definitions, others: Definitions) -> str:
    """The features that only one side has; all of them where they differ in their order or names alone."""
    return ", ".join(ref for ref in these.refs if ref not in others.refs) or ", ".join(these.refs)


def _view_steps(before: ViewRecord, after: ViewRecord) -> Iterator[tuple[str, ViewRecord, str, str]]:
    now = before
    if now.ttl_micros != after.ttl_micros:
        now = replace(now, ttl_micros=after.ttl_micros)
        yield "ttl", now, duration(before.ttl_micros), duration(after.ttl_micros)
    if now.keys != after.keys:
        now = replace(now, keys=after.keys)
        yield "join keys", now, _named(before.keys), _named(after.keys)
    if now.features != after.features:
        now = replace(now, features=after.features)
        yield "feature types", now, _typed(before.features), _typed(after.features)
    for field in fields(SourceDefinition):
        old, new = getattr(before.source, field.name), getattr(after.source, field.name)
        if old != new:
            now = replace(now, source=replace(now.source, **{field.name: new}))
            yield f"source {field.name.replace('_', ' ')}", now, _said(old), _said(new)


def _function_change(before: OnDemandRecord, after: OnDemandRecord) -> tuple[str, str, str, str] | None:
    if before.code != after.code:
        return "transform", "code", f"sha256:{before.code_sha256}", f"sha256:{after.code_sha256}"
    for attribute in ("mode", "singleton", "inputs", "features"):
        old, new = getattr(before, attribute), getattr(after, attribute)
        if old != new:
            said = _typed if attribute == "features" else _said
            return "definition", attribute, said(old), said(new)
    if before.spec != after.spec:
        old, new = (hashlib.sha256(view.spec.encode()).hexdigest() for view in (before, after))
        return "transform", PICKLED, f"sha256:{old}", f"sha256:{new}"
    return None


def duration(micros: int) -> str:
    """A time to live for people: `2 days`, `10 minutes`, `none`."""
    if not micros:
        return "none"
    for name, length in (
        ("day", 86_400_000_000),
        ("hour", 3_600_000_000),
        ("minute", 60_000_000),
        ("second", 1_000_000),
    ):
        if micros % length == 0:
            count = micros // length
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    return f"{micros:,} microseconds"


def _named(keys: tuple[Key, ...]) -> str:
    return ", ".join(f"{key.name} {key.value_type} from {key.column}" for key in keys)


def _typed(features: tuple[Feature, ...]) -> str:
    return ", ".join(f"{feature.name} {feature.value_type}" for feature in features)


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} as {name}" for key, name in sorted(value.items())) or "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) or "none"
