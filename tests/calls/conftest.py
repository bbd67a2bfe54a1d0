from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from web_target import Target, target


@pytest.fixture
async def server() -> AsyncIterator[Target]:
    async with target() as served:
        yield served
