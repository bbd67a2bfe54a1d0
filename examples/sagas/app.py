"""All worked examples in one application.

    SAGAS_PACE=14400 HORAE_HTTP_NETWORKS=127.0.0.0/8 horae dev examples.sagas.app:app

serves them with days that last six seconds; without a pace they last as long as they say.
"""

from __future__ import annotations

from examples.sagas import operations, shop, support, trading
from examples.sagas.base import app
from examples.sagas.pace import scaled_definition

__all__ = ["app", "operations", "shop", "support", "trading"]

app.schedules = {id_: scaled_definition(each) for id_, each in app.schedules.items()}
