"""A view store of each kind, and a desk on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from desk import Desk

from horae_infrastructure.views import open_views
from horae_projections.ports import ViewStore


@pytest.fixture(params=["memory", "valkey"])
async def views(request: pytest.FixtureRequest) -> AsyncIterator[ViewStore]:
    """An empty view store."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("valkey_url")
    store = open_views(url)
    yield store
    await store.close()


@pytest.fixture
def desk(views: ViewStore) -> Desk:
    """A log and a view of it, in both kinds of store."""
    return Desk(views)
