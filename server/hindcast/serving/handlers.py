"""The services on the port: bytes in, bytes out. Handlers parse requests themselves, because grpcio answers bytes that do
not parse with UNKNOWN and an exception's text.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version

import grpc

from hindcast.clock import Clock, Deadline, uuid7
from hindcast.errors import HindcastError
from hindcast.serving.answer import feast_bytes, hindcast_bytes
from hindcast.serving.lookup import Lookup, timestamp_bytes
from hindcast.serving.question import read_feast, read_hindcast
from hindcast.serving.status import LOOKUP_ID_KEY, abort
from hindcast.serving.writes import FEAST_GRPC, PUSH_SERVICE
from hindcast.shadow.v1 import shadow_pb2
from hindcast.v1 import feature_service_pb2

logger = logging.getLogger(__name__)

FEAST_SERVING = "feast.serving.ServingService"
HINDCAST = "hindcast.v1.FeatureService"
SERVICES = (FEAST_SERVING, FEAST_GRPC, HINDCAST, PUSH_SERVICE)

Handler = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class Handlers:
    """The RPCs of one worker.

    Attributes:
        lookup: what calls that begin now are answered from. Setting another one changes no call that has begun.
    """

    def __init__(self, *, lookup: Lookup, clock: Clock, call_timeout_ms: int) -> None:
        """Args: call_timeout_ms is the deadline of a call that brings none."""
        self.lookup = lookup
        self._clock = clock
        self._call_timeout_ms = call_timeout_ms
        self._started_micros = clock()

    def generic(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """What `grpc.aio.Server.add_generic_rpc_handlers` takes."""
        services: Mapping[str, Mapping[str, Handler]] = {
            FEAST_SERVING: {
                "GetFeastServingInfo": self.feast_serving_info,
                "GetOnlineFeatures": self.feast_online_features,
            },
            FEAST_GRPC: {"GetOnlineFeatures": self.feast_online_features},
            HINDCAST: {
                "GetOnlineFeatures": self.hindcast_online_features,
                "GetServerInfo": self.hindcast_server_info,
            },
        }
        return tuple(
            grpc.method_handlers_generic_handler(
                service, {name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in methods.items()}
            )
            for service, methods in services.items()
        )

    async def feast_online_features(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`GetOnlineFeatures` of both of Feast's services, in Feast's Python dialect."""
        lookup = self.lookup

        async def run(_: str) -> bytes:
            question = read_feast(request, lookup.catalog)
            answer = await lookup.answer(question, deadline=self._deadline(context))
            return feast_bytes(question, answer, join_keys=lookup.catalog.join_keys)

        return await self._answered(run, context)

    async def hindcast_online_features(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """`hindcast.v1.FeatureService.GetOnlineFeatures`."""
        lookup = self.lookup

        async def run(lookup_id: str) -> bytes:
            answer = await lookup.answer(read_hindcast(request), deadline=self._deadline(context))
            return hindcast_bytes(
                answer,
                lookup_id=lookup_id,
                catalog_version=lookup.catalog.version,
                served_at_micros=self._clock(),
            )

        return await self._answered(run, context)

    async def feast_serving_info(self, _request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        """`feast.serving.ServingService.GetFeastServingInfo`: the version of Feast that this server stands in for."""
        return shadow_pb2.FeastServingInfo(version=self.lookup.catalog.feast_version).SerializeToString()

    async def hindcast_server_info(self, _request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        """`hindcast.v1.FeatureService.GetServerInfo`."""
        catalog = self.lookup.catalog
        info = feature_service_pb2.GetServerInfoResponse(
            version=version("hindcast"),
            feast_version=catalog.feast_version,
            project=catalog.project,
            catalog_version=catalog.version,
            feature_services=sorted(catalog.services),
            feature_views=sorted({**catalog.views, **catalog.on_demand_views}),
        )
        info.started_at.ParseFromString(timestamp_bytes(self._started_micros))
        return info.SerializeToString()

    async def _answered(self, run: Callable[[str], Awaitable[bytes]], context: grpc.aio.ServicerContext) -> bytes:
        """Run one lookup under an id of its own; every way it can end carries the id."""
        lookup_id = str(uuid7(self._clock()))
        try:
            answer = await run(lookup_id)
        except HindcastError as error:
            await abort(context, error, lookup_id=lookup_id)
        except Exception as error:
            logger.exception("lookup %s met a defect", lookup_id)
            await abort(context, error, lookup_id=lookup_id)
        context.set_trailing_metadata(((LOOKUP_ID_KEY, lookup_id),))
        return answer

    def _deadline(self, context: grpc.aio.ServicerContext) -> Deadline:
        remaining = context.time_remaining()
        return Deadline(self._call_timeout_ms / 1000 if remaining is None else remaining)
