"""What Feast and the functions of a repo raise, as errors that say what to do."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from feast import FeatureStore, OnDemandFeatureView
from feast.errors import (
    FeastError,
    FeatureNameCollisionError,
    RequestDataNotFoundInEntityDfException,
)

from hindcast.errors import HindcastError, InvalidArgument, TransformError, UnknownName
from hindcast.spelling import hint_of

_APPLY = "new ones are there after `feast apply`"


@contextmanager
def transforming(views: Sequence[OnDemandFeatureView]) -> Iterator[None]:
    """What fails while the first batch is made may be a function's own failure."""
    try:
        yield
    except RequestDataNotFoundInEntityDfException as error:
        needed = {name for view in views for name in view.get_request_data_schema()}
        raise InvalidArgument.at(
            "entity_frame", f"lacks a column that the on-demand views are given: they need {', '.join(sorted(needed))}"
        ) from error
    except (HindcastError, FeastError, pa.ArrowException, OSError, MemoryError):
        raise
    except ImportError as error:
        raise _not_importable(error) from error
    except Exception as error:
        if not views:
            raise
        names = ", ".join(repr(view.name) for view in views)
        raise TransformError(
            f"the function of one of the on-demand views {names} failed; its own error is the cause of this one"
        ) from error


def _not_importable(error: ImportError) -> TransformError:
    return TransformError(
        f"a function of an on-demand view imports {error.name or 'a module'}, which cannot be imported here; put it back into the repo, or install it"
    )


@contextmanager
def in_our_words(features: str | Sequence[str], store: FeatureStore) -> Iterator[None]:
    """What fails while a store looks for some features, or reads them.

    Raises:
        UnknownName: one of them is not there.
        InvalidArgument: they cannot be asked for together.
        TransformError: a function's imports are not there.
    """
    try:
        yield
    except FeatureNameCollisionError as error:
        raise InvalidArgument.at(
            "features", "have two of one name; ask for full feature names, or leave one out"
        ) from error
    except ImportError as error:
        raise _not_importable(error) from error
    except TypeError as error:
        # Feast sorts what a service asks for, and an alias is not less than none.
        raise InvalidArgument.at(
            "features",
            f"of {features!r} have a view both under its own name and under another one, which Feast does not read; give it a name in both places "
            "(`.with_name`)",
        ) from error
    except (FeastError, ValueError, KeyError) as error:
        raise _unknown(features, store) or _refused_together() from error


def _unknown(features: str | Sequence[str], store: FeatureStore) -> InvalidArgument | UnknownName | None:
    """What of the features there is not; None where there is all of it."""
    if isinstance(features, str):
        services = [service.name for service in store.list_feature_services()]
        return None if features in services else UnknownName("feature service", features, _hint(features, services))
    views = {view.name: view for view in [*store.list_all_feature_views(), *store.list_on_demand_feature_views()]}
    for ref in features:
        name, _, feature = ref.partition(":")
        if not name or not feature:
            return InvalidArgument.at("features", f"have {ref!r}, which is not view:feature")
        # `view@v2` is a version of a view.
        view = views.get(name.partition("@")[0])
        if view is None:
            return UnknownName("feature view", name, _hint(name, views))
        there = [f"{name}:{one.name}" for one in view.features]
        if "@" not in name and ref not in there:
            return UnknownName("feature", ref, _hint(ref, there))
    return None


def _hint(name: str, names: Iterable[str]) -> str:
    return f"{hint_of(name, names, none='there are none')} ({_APPLY})"


def _refused_together() -> InvalidArgument:
    return InvalidArgument.at(
        "features", "cannot be asked for together; name one feature service, or a list of view:feature"
    )
