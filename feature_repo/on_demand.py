"""Features that need the payment itself, computed when asked, the same way for training and serving.

Feast stores each function as pickled code and runs it elsewhere, so a function stands alone: what it needs, it is given or
imports itself. A missing input gives a missing output.
"""

from typing import Any

import pandas as pd
from feast import Field
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float64, Int64

from sources import payment_request
from views import account_activity, account_profile, merchant_stats


@on_demand_feature_view(
    sources=[payment_request, account_profile[["credit_limit"]], account_activity[["amount_mean_7d"]]],
    schema=[
        Field(name="amount_to_mean", dtype=Float64),
        Field(name="credit_used", dtype=Float64),
    ],
    mode="pandas",
    description="The payment against what is usual and what is allowed for the account",
)
def amount_checks(inputs: pd.DataFrame) -> pd.DataFrame:
    """One row per payment: its amount in units of the account's mean, and of its credit limit."""
    amount = inputs["amount"].astype("float64")
    # An account without history has no mean; a null is honest where infinity would not be.
    mean = inputs["amount_mean_7d"].astype("float64")
    limit = inputs["credit_limit"].astype("float64")
    return pd.DataFrame(
        {
            "amount_to_mean": (amount / mean).where(mean > 0),
            "credit_used": (amount / limit).where(limit > 0),
        },
        index=inputs.index,
    )


@on_demand_feature_view(
    sources=[payment_request, account_profile[["country"]], merchant_stats[["merchant_country"]]],
    schema=[
        Field(name="card_is_foreign", dtype=Bool),
        Field(name="borders_crossed", dtype=Int64),
    ],
    mode="python",
    description="How many countries the card, the account and the merchant are in",
)
def route_checks(inputs: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """One entry per payment: whether card and account differ, and how many of the three countries differ from the first."""
    foreign: list[bool | None] = []
    crossed: list[int | None] = []
    for card, home, shop in zip(inputs["card_country"], inputs["country"], inputs["merchant_country"], strict=True):
        foreign.append(None if card is None or home is None else card != home)
        crossed.append(None if card is None or home is None or shop is None else len({card, home, shop}) - 1)
    return {"card_is_foreign": foreign, "borders_crossed": crossed}
