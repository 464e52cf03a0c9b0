"""Where the features come from: Parquet files that `demo/generate.py` writes, and one stream that is pushed.

Paths are relative to this folder. Feast's DuckDB store reads them relative to the working directory, so run `feast` from
here or with `--chdir`.
"""

from feast import Field, FileSource, PushSource, RequestSource
from feast.types import Float64, String

account_profile_source = FileSource(
    name="account_profile_source",
    path="data/account_profile.parquet",
    timestamp_field="event_ts",
    created_timestamp_column="created_ts",
    # The core banking system's own column name.
    field_mapping={"cr_limit": "credit_limit"},
)

account_activity_source = FileSource(
    name="account_activity_source",
    path="data/account_activity.parquet",
    timestamp_field="event_ts",
    created_timestamp_column="created_ts",
)

# A nightly warehouse export: its timestamp columns carry no time zone and mean UTC.
merchant_stats_source = FileSource(
    name="merchant_stats_source",
    path="data/merchant_stats.parquet",
    timestamp_field="event_ts",
    created_timestamp_column="created_ts",
)

device_signals_source = FileSource(
    name="device_signals_source",
    path="data/device_signals.parquet",
    timestamp_field="event_ts",
    created_timestamp_column="created_ts",
)

account_merchant_source = FileSource(
    name="account_merchant_source",
    path="data/account_merchant.parquet",
    timestamp_field="event_ts",
    created_timestamp_column="created_ts",
)

platform_risk_source = FileSource(
    name="platform_risk_source",
    path="data/platform_risk.parquet",
    timestamp_field="event_ts",
    created_timestamp_column="created_ts",
)

account_velocity_batch = FileSource(
    name="account_velocity_batch",
    path="data/account_velocity.parquet",
    timestamp_field="event_ts",
    created_timestamp_column="created_ts",
)

account_velocity_push = PushSource(name="account_velocity_push", batch_source=account_velocity_batch)

payment_request = RequestSource(
    name="payment_request",
    schema=[
        Field(name="amount", dtype=Float64),
        Field(name="card_country", dtype=String),
    ],
)
