"""Who takes part in a payment.

The three join keys have different shapes on purpose. `account_id` and `merchant_id` are text, so the pairs ("1", "23") and
("12", "3") exist and must not meet; `device_id` is a 63-bit fingerprint, which a detour through a float would round.
"""

from feast import Entity, ValueType

account = Entity(
    name="account",
    join_keys=["account_id"],
    value_type=ValueType.STRING,
    description="Somebody who pays or is paid",
)
merchant = Entity(
    name="merchant",
    join_keys=["merchant_id"],
    value_type=ValueType.STRING,
    description="A shop that takes payments",
)
device = Entity(
    name="device",
    join_keys=["device_id"],
    value_type=ValueType.INT64,
    description="A phone or browser, by its fingerprint",
)
