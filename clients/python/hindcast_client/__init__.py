"""The light Python client of Hindcast.

In come features by name and the entities to look up, as plain Python, NumPy, pandas or Arrow data; out goes a
`FeatureResult` with the values, their statuses and times, and the id of the receipt that the server kept. Rows in the same
forms are written by `push`, and `get_receipt` shows what an earlier lookup was answered. `TrainingSets` builds and reads training sets on a
server of theirs.

    with Client("localhost:50051") as client:
        result = client.get_online_features(features="account_screening", entities={...})

Importing this package needs grpcio and protobuf only and takes under 0.3 s. What it asks of a server is the public
API, `hindcast.v1`, and nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hindcast_client._aio import AsyncClient
from hindcast_client._channel import TLS
from hindcast_client._errors import (
    Cancelled,
    DeadlineExceeded,
    FieldViolation,
    HindcastError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from hindcast_client._info import ServerInfo
from hindcast_client._policy import RetryPolicy
from hindcast_client._push import PushResult, ViewWrites
from hindcast_client._receipt import Receipt, ReceiptPage, ReceiptSummary
from hindcast_client._result import FeatureResult, FeatureStatus
from hindcast_client._stream import Lookup
from hindcast_client._sync import Client

if TYPE_CHECKING:
    from hindcast_client._build import KeySplits, TimeSplits
    from hindcast_client._reports import Change, Diff, NotRegistered, Progress, Rebuild, Verification
    from hindcast_client._training_sets import TrainingSet, TrainingSets
    from hindcast_client._training_sets_aio import AsyncTrainingSet, AsyncTrainingSets

__all__ = [
    "TLS",
    "AsyncClient",
    "AsyncTrainingSet",
    "AsyncTrainingSets",
    "Cancelled",
    "Change",
    "Client",
    "DeadlineExceeded",
    "Diff",
    "FeatureResult",
    "FeatureStatus",
    "FieldViolation",
    "HindcastError",
    "InvalidRequest",
    "KeySplits",
    "Lookup",
    "NotFound",
    "NotRegistered",
    "Overloaded",
    "PermissionDenied",
    "Progress",
    "PushResult",
    "Rebuild",
    "Receipt",
    "ReceiptPage",
    "ReceiptSummary",
    "RetryPolicy",
    "ServerError",
    "ServerInfo",
    "TimeSplits",
    "TrainingSet",
    "TrainingSets",
    "Unauthenticated",
    "Unavailable",
    "Verification",
    "ViewWrites",
]

_OF_TRAINING_SETS = {
    "AsyncTrainingSet": "_training_sets_aio",
    "AsyncTrainingSets": "_training_sets_aio",
    "Change": "_reports",
    "Diff": "_reports",
    "KeySplits": "_build",
    "NotRegistered": "_reports",
    "Progress": "_reports",
    "Rebuild": "_reports",
    "TimeSplits": "_build",
    "TrainingSet": "_training_sets",
    "TrainingSets": "_training_sets",
    "Verification": "_reports",
}


def __getattr__(name: str) -> Any:
    # Loaded with the first of these that is asked for: who looks features up needs none of it.
    if name not in _OF_TRAINING_SETS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_OF_TRAINING_SETS[name]}"), name)
