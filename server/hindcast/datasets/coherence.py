"""Whether what a manifest says goes together: digests with what they are of, sources with definitions, numbers with each other.

It needs nothing but the manifest. A problem begins with the field, as the manifest's JSON has it.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from google.protobuf.message import DecodeError

from hindcast.datasets.definitions import Definitions, OnDemandRecord, SourceTitle, source_titles
from hindcast.datasets.manifest import FORMAT, FrameRecord, Manifest, SplitsRecord
from hindcast.offline.location import is_pattern
from hindcast.shadow.v1 import registry_pb2

_FORMS = {"path": False, "sql": True, "rows": True, "keys": True, "lookups": False}
"""Form of an entity frame -> whether its files are kept with the set."""


def contradictions(manifest: Manifest, *, name: str) -> Iterator[str]:
    """What of a manifest cannot be, whatever its rows are.

    Args:
        name: under which the set is stored.
    """
    if manifest.format != FORMAT:
        yield f"format is {manifest.format}, and a build writes {FORMAT}"
    if manifest.name != name:
        yield f"name is {manifest.name!r}, and the set is stored as {name!r}"
    yield from _wrong_request(manifest)
    yield from frame_contradictions(manifest.frame, at="frame")
    if (manifest.lookups is None) is (manifest.frame.form == "lookups"):
        yield f"lookups do not go with frame.form, which is {manifest.frame.form!r}"
    yield from _wrong_splits(manifest)
    yield from _wrong_digests(manifest)
    yield from _wrong_code(manifest)
    yield from _wrong_modules(manifest)
    yield from _wrong_sources(manifest)
    yield from _wrong_evidence(manifest)
    git = manifest.git
    if git is not None and (git.is_dirty != bool(git.changed) or list(git.changed) != sorted(set(git.changed))):
        yield "git.is_dirty or git.changed are not those of one state"
    own = Counter(file.path for file in manifest.own_files())
    yield from (f"{path} is a file of the set more than once" for path, times in own.items() if times > 1)
    yield from (
        f"{file.path} is a file of the set, and its tag is {file.tag!r}" for file in manifest.own_files() if file.tag
    )


def _wrong_request(manifest: Manifest) -> Iterator[str]:
    """What was asked for: features, and when."""
    known_at, definitions = manifest.known_at, manifest.definitions
    expected = {"time": (True, False), "column": (False, True), "own": (False, False)}.get(known_at.kind)
    if (known_at.micros is not None, bool(known_at.column)) != expected:
        yield f"known_at is of the kind {known_at.kind!r}, which does not go with its micros and column"
    elif known_at.column and known_at.column not in manifest.frame.columns:
        yield f"known_at.column is {known_at.column!r}, which frame.columns do not have"
    if manifest.lookups is not None:
        if known_at.kind != "own":
            yield f"known_at.kind is {known_at.kind!r}, and what was served is of each row's own time"
    elif definitions.service:
        if manifest.features != (definitions.service,):
            yield f"features or definitions.service were edited: the service is {definitions.service!r}"
    elif not _are_refs_of(manifest.features, definitions):
        yield "features or definitions.refs were edited: the ones are not of the others"


def _are_refs_of(features: tuple[str, ...], definitions: Definitions) -> bool:
    """Whether features were asked for by these: the others are what on-demand views need."""
    inputs = {name for view in definitions.on_demand for name in view.inputs}
    return set(features) <= set(definitions.refs) and all(ref in features or ref in inputs for ref in definitions.refs)


def frame_contradictions(frame: FrameRecord, *, at: str) -> Iterator[str]:
    """What of the record of an entity frame, or of labels, cannot be.

    Args:
        at: the field of the manifest that it is.
    """
    if _FORMS.get(frame.form) is not frame.is_kept:
        yield f"{at}.form or {at}.is_kept are not: the form is {frame.form!r}"
    elif not _are_files_of(frame, at):
        yield f"{at}.files or {at}.text are not those of the form {frame.form!r}"
    if bool(frame.text) is (frame.form == "rows"):
        yield f"{at}.text is {frame.text!r}, which does not go with the form {frame.form!r}"
    if frame.form == "keys" and frame.text.count("/") != 1:
        yield f"{at}.text is {frame.text!r}, which are not two times"


def _are_files_of(frame: FrameRecord, at: str) -> bool:
    """Whether the files can be of this frame: the set's own, those at the path that was given, or none of rows of a log."""
    paths = [file.path for file in frame.files]
    if frame.form == "lookups":
        return not paths
    folder = ("entity_frame" if at == "frame" else "labels") if frame.is_kept else frame.text.rstrip("/")
    is_there = (not frame.is_kept and is_pattern(folder)) or all(
        path == folder or path.startswith(f"{folder}/") for path in paths
    )
    return bool(paths) and len(set(paths)) == len(paths) and is_there


def is_dealable(splits: SplitsRecord) -> bool:
    """Whether the record is of splits that rows can be dealt into."""
    names = len(splits.names)
    if not names or len(set(splits.names)) != names:
        return False
    if splits.kind == "time":
        is_bare = not (splits.parts or splits.keys or splits.seed)
        return is_bare and len(splits.ends) == names - 1 and all(one < next_ for one, next_ in pairwise(splits.ends))
    is_key = splits.kind == "key" and not splits.ends and bool(splits.keys)
    return is_key and len(splits.parts) == names and min(splits.parts) >= 0 and sum(splits.parts) > 0


def _wrong_splits(manifest: Manifest) -> Iterator[str]:
    if manifest.splits is not None and not is_dealable(manifest.splits):
        yield f"splits of the kind {manifest.splits.kind!r} have not these names, ends, parts, keys and seed"


def _wrong_digests(manifest: Manifest) -> Iterator[str]:
    """Digests that are not of what the manifest has."""
    definitions = manifest.definitions
    digests = {name: f"sha256:{digest}" for name, digest in definitions.digests().items()}
    places = {
        **{view.name: f"definitions.views[{at}]" for at, view in enumerate(definitions.views)},
        **{view.name: f"definitions.on_demand[{at}]" for at, view in enumerate(definitions.on_demand)},
    }
    is_whole = manifest.definitions_digest == f"sha256:{definitions.digest()}"
    if set(manifest.definition_digests) != set(digests):
        yield f"definitions or definition_digests are of others: {_listed(digests)}, and {_listed(manifest.definition_digests)}"
    wrong = [name for name, said in manifest.definition_digests.items() if digests.get(name, said) != said]
    for name in wrong:
        if is_whole:
            yield f"definition_digests.{name} is not the digest of {places[name]}"
        else:
            yield f"{places[name]} ({name}) has another digest than definition_digests.{name} and definitions_digest"
    if not is_whole and not wrong:
        yield "definitions or definitions_digest were edited: the one is not the digest of the other"


def _wrong_code(manifest: Manifest) -> Iterator[str]:
    """Code that is not what the definitions have."""
    definitions = manifest.definitions
    codes = {view.name: f"sha256:{view.code_sha256}" for view in definitions.on_demand}
    if set(codes) != set(manifest.code_digests):
        yield f"definitions or code_digests are of others: {_listed(codes)}, and {_listed(manifest.code_digests)}"
    for name, said in manifest.code_digests.items():
        if codes.get(name, said) != said:
            yield f"code_digests.{name} is not the digest of the code of {name} in definitions.on_demand"
    for at, view in enumerate(definitions.on_demand):
        if not _is_spec_of(view):
            yield f"definitions.on_demand[{at}].spec ({view.name}) has another mode, code or features than definitions.on_demand[{at}]"


def _wrong_modules(manifest: Manifest) -> Iterator[str]:
    definitions = manifest.definitions
    names = {view.name for view in definitions.on_demand}
    for at, module in enumerate(manifest.modules or ()):
        if not module.views or not names.issuperset(module.views) or list(module.views) != sorted(set(module.views)):
            yield f"modules[{at}].views or definitions were edited: {_listed(module.views)} are not among the on-demand views"
    paths = [module.path for module in manifest.modules or ()]
    if paths != sorted(set(paths)):
        yield "modules have one twice, or in another order than a build writes"


def _is_spec_of(view: OnDemandRecord) -> bool:
    """Whether Feast's own form of an on-demand view says what the record does; the pickled function in it says nothing."""
    try:
        stored = base64.b64decode(view.spec, validate=True)
        if base64.b64encode(stored).decode() != view.spec:
            return False
        spec = registry_pb2.OnDemandFeatureView.FromString(stored).spec
    except (binascii.Error, ValueError, DecodeError):
        return False
    function = spec.feature_transformation.user_defined_function
    text = function.body_text or spec.user_defined_function.body_text
    names = {feature.name for feature in spec.features}
    return bool(
        spec.mode == view.mode
        and spec.singleton == view.singleton
        and text == view.code
        and all(feature.name in names for feature in view.features)
    )


def _wrong_sources(manifest: Manifest) -> Iterator[str]:
    titles = source_titles(manifest.definitions)
    said = [SourceTitle(name=one.name, path=one.path, views=one.views) for one in manifest.sources]
    if len(said) != len(titles):
        yield f"sources are {len(said):,}, and the views in definitions have {len(titles):,}"
        return
    formats = {view.name: view.source.file_format for view in manifest.definitions.views}
    for at, (source, title) in enumerate(zip(said, titles, strict=True)):
        if source != title:
            yield f"sources[{at}] or definitions were edited: it is not {title.name!r} at {title.path!r} for {_listed(title.views)}, which definitions name"
        elif len({file.path for file in manifest.sources[at].files}) != len(manifest.sources[at].files):
            yield f"sources[{at}].files have one twice"
        elif (formats[title.views[0]] == "delta") is (manifest.sources[at].version is None):
            yield f"sources[{at}].version is {manifest.sources[at].version}, which does not go with its format"


def _wrong_evidence(manifest: Manifest) -> Iterator[str]:
    numbers = {view.name: number for number, view in enumerate(manifest.definitions.views)}
    snapshots = manifest.evidence.snapshots
    if snapshots and set(snapshots) != set(numbers):
        yield f"evidence.snapshots are of {_listed(snapshots)}, and definitions have {_listed(numbers)}"
        return
    for view, file in snapshots.items():
        if file.path != f"evidence/snapshot-{numbers[view]:03d}/part-00000.parquet":
            yield f"evidence.snapshots.{view} is {file.path}, which is that of another view"


def _listed(names: object) -> str:
    return ", ".join(map(str, names)) or "none"  # type: ignore[call-overload]
