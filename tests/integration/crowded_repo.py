"""A repo with one of everything that a wrong request can meet: the quick repo of `faults/repos.py`, and views with composite keys,
on-demand views that work and that fail, views that cannot be served, services that name what is gone.

Nothing here imports Feast; a server on it does, because it has on-demand views (6 s).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dill
from google.protobuf.duration_pb2 import Duration

from faults.repos import PROJECT, make_repo, registry
from hindcast.shadow.v1 import registry_pb2 as pb

BYTES, STRING, INT32, INT64, DOUBLE, FLOAT, BOOL, UNIX_TIMESTAMP = range(1, 9)

RIDE_INPUTS: Mapping[str, int] = {
    "label": STRING,
    "seats": INT64,
    "distance": DOUBLE,
    "shared": BOOL,
    "booked_at": UNIX_TIMESTAMP,
    "token": BYTES,
}
"""Request data of the on-demand view `fare`, one of each simple type."""


def make_crowded_repo(root: Path, connection_string: str) -> Path:
    """Make the repo, applied, on some Redis; gives its folder."""
    make_repo(root, connection_string)
    (root / "registry.db").write_bytes(_registry().SerializeToString())
    return root


def _registry() -> pb.Registry:
    crowded = registry()
    crowded.entities.add(spec=pb.EntitySpec(name="gauge", join_key="gauge_id", value_type=DOUBLE, project=PROJECT))
    for name, entities, disabled in (
        ("crossing", ("driver", "string_entity"), False),
        ("by_double", ("gauge",), False),
    ):
        crowded.feature_views.add(
            spec=pb.FeatureViewSpec(
                name=name,
                project=PROJECT,
                entities=entities,
                features=[pb.FeatureSpec(name="weight", value_type=DOUBLE)],
                ttl=Duration(),
                disabled=disabled,
            )
        )
    crowded.label_views.add(spec=pb.LabelViewSpec(name="verdict", project=PROJECT))
    for name, view, feature in (
        ("sleeping", "asleep", "trips"),
        ("haunted", "ghost", "trips"),
        ("stripped", "driver", "gone"),
        ("fares", "fare", "price"),
    ):
        projection = pb.FeatureViewProjection(feature_view_name=view, feature_columns=[pb.FeatureSpec(name=feature)])
        crowded.feature_services.add(spec=pb.FeatureServiceSpec(name=name, project=PROJECT, features=[projection]))
    crowded.feature_services.add(spec=pb.FeatureServiceSpec(name="hollow", project=PROJECT))
    for name, function, features, view in (
        ("fare", _fare, {"price": DOUBLE, "trips": INT64}, "driver"),
        ("short", _short, {"price": DOUBLE}, "driver"),
        ("silent", _silent, {"price": DOUBLE}, "driver"),
        ("wordy", _wordy, {"price": DOUBLE}, "driver"),
        ("dreaming", _wordy, {"price": DOUBLE}, "asleep"),
    ):
        inputs = RIDE_INPUTS if name == "fare" else {}
        crowded.on_demand_feature_views.append(_on_demand(name, function, features, view, inputs).SerializeToString())
    return crowded


def _on_demand(
    name: str, function: Callable[..., Any], features: Mapping[str, int], view: str, inputs: Mapping[str, int]
) -> pb.OnDemandFeatureView:
    projection = pb.FeatureViewProjection(
        feature_view_name=view, feature_columns=[pb.FeatureSpec(name="trips", value_type=INT64)]
    )
    sources = {view: pb.OnDemandSource(feature_view_projection=projection)}
    if inputs:
        schema = [pb.FeatureSpec(name=field, value_type=kind) for field, kind in inputs.items()]
        sources["ride"] = pb.OnDemandSource(
            request_data_source=pb.DataSource(request_data_options=pb.RequestDataOptions(schema=schema))
        )
    function.__module__ = "__main__"  # so that dill writes the function, not where it is
    code = pb.UserDefinedFunction(name=name, body=dill.dumps(function, recurse=True), body_text=name, mode="python")
    return pb.OnDemandFeatureView(
        spec=pb.OnDemandFeatureViewSpec(
            name=name,
            project=PROJECT,
            features=[pb.FeatureSpec(name=feature, value_type=kind) for feature, kind in features.items()],
            sources=sources,
            feature_transformation=pb.FeatureTransformation(user_defined_function=code),
            mode="python",
        )
    )


def _fare(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A price per row; fails where the distance is 0."""
    return {
        "price": [None if distance is None else 10 / distance for distance in inputs["distance"]],
        "trips": inputs["trips"],
    }


def _short(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"price": [1.0] * (len(inputs["trips"]) + 1)}


def _silent(_inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {}


def _wordy(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"price": ["dear"] * len(inputs["trips"])}
