"""What a server says about itself."""

from dataclasses import dataclass
from datetime import UTC, datetime

from hindcast.v1.feature_service_pb2 import GetServerInfoResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """Which server answers, and from which definitions.

    Attributes:
        version: of Hindcast.
        feast_version: of the Feast that compiled the catalog.
        catalog_version: digest of the definitions in force.
        started_at: when the worker that answered started, aware UTC.
        feature_services: names that `features="..."` takes.
        feature_views: names that a `view:feature` reference may begin with.
    """

    version: str
    feast_version: str
    project: str
    catalog_version: str
    started_at: datetime
    feature_services: tuple[str, ...]
    feature_views: tuple[str, ...]


def read_info(response: GetServerInfoResponse) -> ServerInfo:
    """The answer as plain Python."""
    return ServerInfo(
        version=response.version,
        feast_version=response.feast_version,
        project=response.project,
        catalog_version=response.catalog_version,
        started_at=response.started_at.ToDatetime(tzinfo=UTC),
        feature_services=tuple(response.feature_services),
        feature_views=tuple(response.feature_views),
    )
