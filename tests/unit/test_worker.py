"""A worker that is handed catalogs."""

import asyncio
from types import SimpleNamespace

import pytest

from faults.repos import registry
from hindcast.catalog.compile import compile_catalog
from hindcast.errors import CatalogError
from hindcast.serving import worker
from hindcast.serving.worker_settings import REFUSED, TAKEN, catalog_to_line


@pytest.mark.parametrize("error", [CatalogError("no such module"), RuntimeError("a defect"), RecursionError()])
def test_a_catalog_that_cannot_be_loaded_is_refused_and_the_next_one_taken(monkeypatch, caplog, error):
    """Whatever loading a catalog raises, the worker says so, goes on with the last one, and takes the next."""
    said = []
    monkeypatch.setattr(worker, "_say", said.append)
    handlers = SimpleNamespace(lookup="the last one")
    seen = []

    def lookup_in(_catalog):
        seen.append(handlers.lookup)
        if len(seen) == 1:
            raise error
        return "the next one"

    async def follow():
        orders, stop = asyncio.StreamReader(), asyncio.Event()
        line = catalog_to_line(compile_catalog(registry(), project="tiny"))
        orders.feed_data(line + line)
        orders.feed_eof()
        await worker._follow(orders, handlers, lookup_in, stop)
        return stop.is_set()

    assert asyncio.run(follow())
    assert [REFUSED, TAKEN] == said
    assert ["the last one", "the last one"] == seen
    assert "the next one" == handlers.lookup
    (record,) = caplog.records
    assert "the last one goes on" in record.getMessage()
    assert isinstance(error, CatalogError) == (record.exc_info is None)
