"""How a server is reached: target, TLS, token, and the channel's options. What both clients share of the network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Self

import grpc

from hindcast.v1.feature_service_pb2 import (
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
    GetServerInfoRequest,
    GetServerInfoResponse,
    StreamOnlineFeaturesRequest,
    StreamOnlineFeaturesResponse,
)
from hindcast.v1.lookup_service_pb2 import (
    GetReceiptRequest,
    GetReceiptResponse,
    ListReceiptsRequest,
    ListReceiptsResponse,
)
from hindcast.v1.push_service_pb2 import PushRequest, PushResponse
from hindcast_client._policy import Attempts, RetryBudget, RetryPolicy

Token = str | Callable[[], str]
ChannelOptions = Sequence[tuple[str, str | int]]

TIMEOUT_SECONDS = 5.0
NO_OPTIONS: ChannelOptions = ()
DEFAULT_RETRY = RetryPolicy()

_OPTIONS: ChannelOptions = (
    # 100 entities x 50 features answer with 84 kB; 64 MiB leaves room for embeddings and still bounds a client's memory.
    ("grpc.max_receive_message_length", 64 * 2**20),
    ("grpc.max_send_message_length", 64 * 2**20),
    # A peer that went away without a word (a pulled cable, a dropped NAT entry) is noticed after 25 s of open calls.
    # No pings on an idle connection: servers count them as abuse unless told otherwise.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # gRPC waits 1 s after a refused connection before it tries another, longer than all our retries together.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Each client owns its connection. By default all channels of a process to one address share one, and a server of
    # several workers on one port gives a connection to one worker.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "hindcast-client-python"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """What to trust and what to show, all PEM.

    Attributes:
        ca_pem: the authorities to trust; None trusts those that gRPC ships with.
        certificate_pem: this client's certificate chain, where the server asks for one (mTLS).
        key_pem: its private key.
        server_name: the name that the server's certificate must carry, where it differs from the address dialled.
    """

    ca_pem: bytes | None = None
    certificate_pem: bytes | None = None
    key_pem: bytes | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate_pem is None) != (self.key_pem is None):
            raise ValueError("certificate_pem and key_pem go together; give both, or none")

    @classmethod
    def from_files(
        cls,
        *,
        ca: str | PathLike[str] | None = None,
        certificate: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        server_name: str | None = None,
    ) -> Self:
        """Read PEM files once, now. Raises OSError where one cannot be read."""
        ca_pem, certificate_pem, key_pem = (
            None if path is None else Path(path).read_bytes() for path in (ca, certificate, key)
        )
        return cls(ca_pem=ca_pem, certificate_pem=certificate_pem, key_pem=key_pem, server_name=server_name)


class Link:
    """A checked way to one server, and the retry budget that its calls share. Opens nothing by itself."""

    def __init__(
        self,
        target: str,
        *,
        tls: TLS | None,
        token: Token | None,
        timeout_seconds: float,
        retry: RetryPolicy,
        options: ChannelOptions,
    ) -> None:
        if target.startswith(("http://", "https://")):
            raise ValueError(f"target {target!r} is a URL; give 'host:port', and tls=TLS() for an encrypted connection")
        if ":" not in target:
            raise ValueError(f"target {target!r} has no port; give 'host:port', such as 'localhost:50051'")
        self.target = target
        self._tls = tls
        self._token = token
        self._timeout_seconds = _positive(timeout_seconds)
        self._retry = retry
        self._options = options
        self._budget = RetryBudget(retry)

    def open(self, library: Any) -> Any:
        """A channel of `library`, which is grpc or grpc.aio. Connects when first called."""
        options = [*_OPTIONS, *self._options]
        if self._tls is None:
            return library.insecure_channel(self.target, options=options)
        if self._tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self._tls.server_name))
        credentials = grpc.ssl_channel_credentials(
            root_certificates=self._tls.ca_pem,
            private_key=self._tls.key_pem,
            certificate_chain=self._tls.certificate_pem,
        )
        return library.secure_channel(self.target, credentials, options=options)

    def attempts(self, timeout_seconds: float | None) -> Attempts:
        """The attempts of a call that begins now; None means the client's own timeout."""
        timeout_seconds = self._timeout_seconds if timeout_seconds is None else _positive(timeout_seconds)
        return Attempts(self._retry, self._budget, timeout_seconds=timeout_seconds)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of one attempt, with the token of this moment."""
        if self._token is None:
            return ()
        token = self._token if isinstance(self._token, str) else self._token()
        return (("authorization", f"Bearer {token}"),)


class Methods:
    """The RPCs of `hindcast.v1` as callables of one channel, sync or aio as the channel is."""

    def __init__(self, channel: Any) -> None:
        self.get_online_features = channel.unary_unary(
            "/hindcast.v1.FeatureService/GetOnlineFeatures",
            request_serializer=GetOnlineFeaturesRequest.SerializeToString,
            response_deserializer=GetOnlineFeaturesResponse.FromString,
        )
        self.stream_online_features = channel.stream_stream(
            "/hindcast.v1.FeatureService/StreamOnlineFeatures",
            request_serializer=StreamOnlineFeaturesRequest.SerializeToString,
            response_deserializer=StreamOnlineFeaturesResponse.FromString,
        )
        self.get_server_info = channel.unary_unary(
            "/hindcast.v1.FeatureService/GetServerInfo",
            request_serializer=GetServerInfoRequest.SerializeToString,
            response_deserializer=GetServerInfoResponse.FromString,
        )
        self.push = channel.unary_unary(
            "/hindcast.v1.PushService/Push",
            request_serializer=PushRequest.SerializeToString,
            response_deserializer=PushResponse.FromString,
        )
        self.get_receipt = channel.unary_unary(
            "/hindcast.v1.Lookups/GetReceipt",
            request_serializer=GetReceiptRequest.SerializeToString,
            response_deserializer=GetReceiptResponse.FromString,
        )
        self.list_receipts = channel.unary_unary(
            "/hindcast.v1.Lookups/ListReceipts",
            request_serializer=ListReceiptsRequest.SerializeToString,
            response_deserializer=ListReceiptsResponse.FromString,
        )


def _positive(timeout_seconds: float) -> float:
    if not (timeout_seconds > 0 and math.isfinite(timeout_seconds)):
        raise ValueError(
            f"timeout_seconds is {timeout_seconds}; give seconds above 0. A call without end is not offered"
        )
    return timeout_seconds
