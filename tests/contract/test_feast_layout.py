"""A repo on Feast's own Redis store, served as it is."""

import pytest

from hindcast_client import Client
from services import run_hindcast

QUESTIONS = {
    "payment_risk": (
        {"account_id": ["1", "12", "nobody"], "merchant_id": ["23", "3", "x"], "device_id": [1, 2, 3]},
        {"amount": [25.0, 10.0, 1.0], "card_country": ["DE", "FR", "JP"]},
    ),
    "account_screening": ({"account_id": ["1", "12", "nobody"], "device_id": [1, 2, 3]}, None),
}


@pytest.fixture(scope="module")
def servers(judge, demo_server):
    """Clients of a server on Feast's layout and of one on packed rows, over the same materialized data."""
    with (
        run_hindcast(judge.repo_path) as server,
        Client(server.address) as feasts,
        Client(demo_server.address) as packed,
    ):
        yield feasts, packed


@pytest.mark.parametrize("service", sorted(QUESTIONS))
def test_feasts_rows_are_served_without_a_change_to_the_repo(servers, service):
    """`online_store: {type: redis}` gives the values, statuses and times that packed rows give."""
    entities, request_data = QUESTIONS[service]
    feasts, packed = (
        client.get_online_features(features=service, entities=entities, request_data=request_data) for client in servers
    )

    assert packed.to_dict() == feasts.to_dict()
    assert packed.statuses == feasts.statuses
    assert packed.event_timestamps == feasts.event_timestamps
    assert {status.name for status in feasts.statuses["country"]} == {"PRESENT", "NOT_FOUND"}
