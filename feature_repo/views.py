"""The feature views. Together they use every scalar type of Feast and an array of each.

TTLs run from ten minutes to none (`timedelta(0)`): the shorter the life of a fact, the more a training set that ignores it lies.
"""

from datetime import timedelta

from feast import FeatureView, Field
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp

from entities import account, device, merchant
from sources import (
    account_activity_source,
    account_merchant_source,
    account_profile_source,
    account_velocity_push,
    device_signals_source,
    merchant_stats_source,
    platform_risk_source,
)

account_profile = FeatureView(
    name="account_profile",
    description="What the bank knows about an account; true until it changes",
    entities=[account],
    ttl=timedelta(0),
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="country", dtype=String),
        Field(name="display_name", dtype=String),
        Field(name="opened_at", dtype=UnixTimestamp),
        Field(name="kyc_level", dtype=Int32),
        Field(name="lifetime_payments", dtype=Int64),
        Field(name="is_business", dtype=Bool),
        Field(name="risk_score", dtype=Float32),
        Field(name="credit_limit", dtype=Float64),
        Field(name="document_hash", dtype=Bytes),
    ],
    source=account_profile_source,
)

account_activity = FeatureView(
    name="account_activity",
    description="A rolling week of payments, written every six hours",
    entities=[account],
    ttl=timedelta(days=2),
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="payments_7d", dtype=Int64),
        Field(name="amount_mean_7d", dtype=Float64),
        Field(name="amount_max_7d", dtype=Float64),
        Field(name="recent_amounts", dtype=Array(Float64)),
        Field(name="recent_countries", dtype=Array(String)),
        Field(name="hourly_counts", dtype=Array(Int32)),
    ],
    source=account_activity_source,
)

account_velocity = FeatureView(
    name="account_velocity",
    description="The last minutes of an account, pushed by the payment stream",
    entities=[account],
    ttl=timedelta(minutes=10),
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="payments_10m", dtype=Int32),
        Field(name="amount_10m", dtype=Float64),
        Field(name="declined_10m", dtype=Int32),
    ],
    source=account_velocity_push,
)

merchant_stats = FeatureView(
    name="merchant_stats",
    description="A merchant's month, exported nightly",
    entities=[merchant],
    ttl=timedelta(days=30),
    schema=[
        Field(name="merchant_id", dtype=String),
        Field(name="category", dtype=String),
        Field(name="merchant_country", dtype=String),
        Field(name="payments_30d", dtype=Int64),
        Field(name="chargeback_rate_30d", dtype=Float64),
        Field(name="onboarded_at", dtype=UnixTimestamp),
    ],
    source=merchant_stats_source,
)

account_merchant = FeatureView(
    name="account_merchant",
    description="What passed between one account and one merchant",
    entities=[account, merchant],
    ttl=timedelta(days=90),
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="merchant_id", dtype=String),
        Field(name="payments_90d", dtype=Int64),
        Field(name="disputes_90d", dtype=Int32),
        Field(name="last_amount", dtype=Float64),
        Field(name="is_trusted", dtype=Bool),
    ],
    source=account_merchant_source,
)

device_signals = FeatureView(
    name="device_signals",
    description="What a device shows of itself while it is in use",
    entities=[device],
    ttl=timedelta(hours=2),
    schema=[
        Field(name="device_id", dtype=Int64),
        Field(name="is_emulator", dtype=Bool),
        Field(name="model", dtype=String),
        Field(name="motion_embedding", dtype=Array(Float32)),
        Field(name="account_hashes", dtype=Array(Int64)),
        Field(name="certificate_hashes", dtype=Array(Bytes)),
        Field(name="check_results", dtype=Array(Bool)),
        Field(name="login_times", dtype=Array(UnixTimestamp)),
    ],
    source=device_signals_source,
)

platform_risk = FeatureView(
    name="platform_risk",
    description="The whole platform's hour; it belongs to nobody, so it has no entity",
    entities=[],
    ttl=timedelta(days=1),
    schema=[
        Field(name="fraud_rate_24h", dtype=Float64),
        Field(name="blocked_payments_24h", dtype=Int64),
        Field(name="usd_rate", dtype=Float64),
    ],
    source=platform_risk_source,
)
