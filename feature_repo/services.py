"""What the models ask for: one feature service per model."""

from feast import FeatureService
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination

from on_demand import amount_checks, route_checks
from views import (
    account_activity,
    account_merchant,
    account_profile,
    account_velocity,
    device_signals,
    merchant_stats,
    platform_risk,
)

payment_risk = FeatureService(
    name="payment_risk",
    description="Decides on a card payment",
    features=[
        account_profile[["country", "kyc_level", "lifetime_payments", "is_business", "risk_score", "credit_limit"]],
        account_activity[["payments_7d", "amount_mean_7d", "amount_max_7d"]],
        account_velocity,
        merchant_stats[["category", "merchant_country", "payments_30d", "chargeback_rate_30d"]],
        account_merchant,
        device_signals[["is_emulator", "model"]],
        platform_risk,
        amount_checks,
        route_checks,
    ],
)

# One view twice, under two names and two join keys. The two share feature names, so ask with full feature names.
transfer_risk = FeatureService(
    name="transfer_risk",
    description="Decides on a transfer from one account to another",
    features=[
        account_profile[["country", "kyc_level", "risk_score"]]
        .with_name("payer_account")
        .with_join_key_map({"account_id": "payer_account_id"}),
        account_profile[["country", "kyc_level", "risk_score"]]
        .with_name("payee_account")
        .with_join_key_map({"account_id": "payee_account_id"}),
    ],
)

# Asked on every page view, so only a quarter of its lookups is kept.
account_screening = FeatureService(
    name="account_screening",
    description="Watches accounts and their devices between payments; every column of three views",
    features=[account_profile, account_activity, device_signals],
    logging_config=LoggingConfig(
        destination=FileLoggingDestination(path="data/lookups/account_screening"),
        sample_rate=0.25,
    ),
)
