"""Every metric that `/metrics` shows, by name. docs/metrics.md explains them, and a test holds the two together.

Names, labels and meanings of `grpc_…` are those of go-grpc-prometheus, of `feast_…` those of Feast 0.67 (feast/metrics.py),
so that dashboards made for either go on working.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a metric is; the value begins the name of its file (`MetricFile`)."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge_livesum"
    GREATEST = "gauge_livemax"
    """A gauge of which the greatest of all workers' counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric. Two are equal if they are one: a flush looks them up by the hundred.

    Attributes:
        name: as a query writes it; a counter's ends in `_total`.
        meaning: the help text, without a full stop. It is part of every key in a file: keep it short.
        bounds: upper bounds of a histogram's buckets, rising, without the infinite one.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()

    @property
    def metric(self) -> str:
        """The name without `_total`, as prometheus_client keeps it."""
        return self.name.removesuffix("_total")


# 0.1 ms apart up to 1 ms, where a lookup is; and every bound of Feast's (which begin at 5 ms), so that its queries hold.
LATENCY_SECONDS = (
    *(0.0001, 0.0002, 0.0003, 0.0004, 0.0005, 0.0006, 0.0007, 0.0008, 0.0009, 0.001),
    *(0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
AGE_SECONDS = (
    *(1.0, 5.0, 15.0, _MINUTE, 5 * _MINUTE, 15 * _MINUTE, _HOUR, 3 * _HOUR, 6 * _HOUR, 12 * _HOUR),
    *(_DAY, 2 * _DAY, 7 * _DAY, 30 * _DAY, 90 * _DAY, 365 * _DAY),
)
_ENTITY_ROWS = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)  # Feast's

_RPC = ("grpc_type", "grpc_service", "grpc_method")

# Counted by workers.
GRPC_STARTED = Family("grpc_server_started_total", Kind.COUNTER, _RPC, "RPCs started")
GRPC_HANDLED = Family(
    "grpc_server_handled_total", Kind.COUNTER, (*_RPC, "grpc_code"), "RPCs ended, whatever their code"
)
GRPC_RECEIVED = Family("grpc_server_msg_received_total", Kind.COUNTER, _RPC, "Messages received")
GRPC_SENT = Family("grpc_server_msg_sent_total", Kind.COUNTER, _RPC, "Messages sent")
GRPC_HANDLING = Family(
    "grpc_server_handling_seconds",
    Kind.HISTOGRAM,
    _RPC,
    "Seconds from an RPC's start in its worker to its end",
    LATENCY_SECONDS,
)
FEAST_REQUESTS = Family(
    "feast_feature_server_request_total", Kind.COUNTER, ("endpoint", "status"), "Requests by endpoint and outcome"
)
FEAST_LATENCY = Family(
    "feast_feature_server_request_latency_seconds",
    Kind.HISTOGRAM,
    ("endpoint",),
    "Seconds per request",
    LATENCY_SECONDS,
)
FEAST_LOOKUPS = Family("feast_online_features_request_total", Kind.COUNTER, (), "Lookups that were well formed")
FEAST_ENTITY_ROWS = Family(
    "feast_online_features_entity_count", Kind.HISTOGRAM, (), "Entity rows per lookup", _ENTITY_ROWS
)
FEAST_VALUES = Family(
    "feast_online_features_status_total",
    Kind.COUNTER,
    ("feature_view", "status"),
    "Feature values looked up, by whether their row was there",
)
FEAST_STORE_READ = Family(
    "feast_feature_server_online_store_read_duration_seconds",
    Kind.HISTOGRAM,
    (),
    "Seconds that a lookup waited for the online store",
    LATENCY_SECONDS,
)
FEAST_TRANSFORM = Family(
    "feast_feature_server_transformation_duration_seconds",
    Kind.HISTOGRAM,
    ("odfv_name", "mode"),
    "Seconds that an on-demand view took in one lookup",
    LATENCY_SECONDS,
)
FEAST_PUSHES = Family("feast_push_request_total", Kind.COUNTER, ("push_source", "mode"), "Pushes that were taken")
VALUES = Family(
    "hindcast_online_values_total",
    Kind.COUNTER,
    ("feature_view", "status"),
    "Feature values looked up, by what was there",
)
VALUE_AGE = Family(
    "hindcast_value_age_seconds",
    Kind.HISTOGRAM,
    ("feature_view",),
    "Per lookup, the age of the oldest row of the view",
    AGE_SECONDS,
)
ROWS_PUSHED = Family(
    "hindcast_pushed_rows_total",
    Kind.COUNTER,
    ("feature_view", "outcome"),
    "Rows pushed to the online store, by outcome",
)
SHED = Family("hindcast_calls_shed_total", Kind.COUNTER, ("reason",), "Calls refused before any work")
EXPIRED = Family("hindcast_calls_expired_total", Kind.COUNTER, (), "Calls whose deadline had passed before any work")
LOOP_LAG = Family(
    "hindcast_event_loop_lag_seconds", Kind.HISTOGRAM, (), "Seconds that a worker's timers were late", LATENCY_SECONDS
)
IN_FLIGHT_CALLS = Family("hindcast_in_flight_calls", Kind.GAUGE, (), "Calls being worked on")
IN_FLIGHT_COST = Family("hindcast_in_flight_cost", Kind.GAUGE, (), "Values asked for by lookups being worked on")
IN_FLIGHT_COST_LIMIT = Family(
    "hindcast_in_flight_cost_limit", Kind.GAUGE, (), "Values beyond which lookups are refused, over all workers"
)
LOG_RECORDS = Family("hindcast_lookup_log_records_total", Kind.COUNTER, (), "Records of lookups written to the log")
LOG_BYTES = Family("hindcast_lookup_log_bytes_total", Kind.COUNTER, (), "Bytes written to the lookup log")
LOG_SYNCED = Family("hindcast_lookup_log_synced_total", Kind.COUNTER, (), "Records of lookups synced to the disk")
LOG_LOST = Family(
    "hindcast_lookup_log_lost_total", Kind.COUNTER, (), "Records of lookups that were lost, each part of a gap"
)
LOG_SAMPLED_OUT = Family(
    "hindcast_lookup_log_sampled_out_total", Kind.COUNTER, (), "Lookups left out by their service's sample rate"
)
LOG_ALARM = Family("hindcast_lookup_log_alarm", Kind.GAUGE, (), "Workers whose lookup log cannot be written")
LOG_UNSYNCED = Family(
    "hindcast_lookup_log_unsynced_seconds",
    Kind.GREATEST,
    (),
    "Of the worker furthest behind, seconds since the last sync with records waiting for one",
)

# Said by the supervisor.
BUILD = Family("hindcast_build_info", Kind.GAUGE, ("version", "feast_version"), "1")
WORKERS = Family("hindcast_workers", Kind.GAUGE, (), "Workers that serve")
WORKERS_WANTED = Family("hindcast_workers_wanted", Kind.GAUGE, (), "Workers that should serve")
RESTARTS = Family(
    "hindcast_worker_restarts_total",
    Kind.COUNTER,
    ("reason",),
    "Workers that ended and were replaced, by why they ended",
)
WORKER_CATALOG = Family(
    "hindcast_worker_catalog_info", Kind.GAUGE, ("slot", "version"), "1 for the catalog that a worker answers from"
)
WORKER_CATALOG_AGE = Family(
    "hindcast_worker_catalog_age_seconds", Kind.GAUGE, ("slot",), "Seconds since a worker took its catalog"
)
WORKER_CPU = Family("hindcast_worker_cpu_seconds_total", Kind.COUNTER, ("slot",), "CPU time of a worker's process")
WORKER_MEMORY = Family(
    "hindcast_worker_resident_memory_bytes", Kind.GAUGE, ("slot",), "Resident memory of a worker's process"
)
CATALOG = Family("hindcast_catalog_info", Kind.GAUGE, ("version",), "1 for the newest catalog that was taken")
CATALOG_AGE = Family("hindcast_catalog_age_seconds", Kind.GAUGE, (), "Seconds since the newest catalog was taken")
RELOADS = Family("hindcast_catalog_reloads_total", Kind.COUNTER, (), "Catalogs taken from the registry since the start")
REGISTRY_PROBLEM = Family(
    "hindcast_registry_problem", Kind.GAUGE, (), "1 while the registry is not taken and the last good catalog is kept"
)
FEAST_FRESHNESS = Family(
    "feast_feature_freshness_seconds",
    Kind.GAUGE,
    ("feature_view", "project"),
    "Seconds since the end of the newest materialized interval",
)
FEAST_CPU = Family("feast_feature_server_cpu_usage", Kind.GAUGE, ("pid",), "CPU percentage of a worker's process")
FEAST_MEMORY = Family(
    "feast_feature_server_memory_usage", Kind.GAUGE, ("pid",), "Memory percentage of a worker's process"
)

# Read from the run ledger by the supervisor.
RUN_SUCCESS = Family(
    "hindcast_materialize_last_success_timestamp_seconds",
    Kind.GAUGE,
    ("feature_view",),
    "When the newest run that succeeded ended, in seconds since 1970",
)
RUN_FRESHNESS = Family(
    "hindcast_materialize_freshness_seconds",
    Kind.GAUGE,
    ("feature_view",),
    "Seconds since the end of the newest interval that a run has stored",
)
RUN_SECONDS = Family(
    "hindcast_materialize_duration_seconds", Kind.GAUGE, ("feature_view",), "Seconds that the last run took"
)
RUN_ROWS = Family(
    "hindcast_materialize_rows", Kind.GAUGE, ("feature_view", "outcome"), "Rows of the last run, by outcome"
)
RUNS = Family(
    "hindcast_materialize_runs_total", Kind.COUNTER, ("feature_view", "outcome"), "Runs that ended, by outcome"
)

FAMILIES = tuple(family for family in globals().copy().values() if isinstance(family, Family))
"""All of them."""
