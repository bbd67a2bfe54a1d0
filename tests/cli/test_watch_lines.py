"""The lines of `horae dev`."""

from __future__ import annotations

from horae import Horae, Retry, manual, testing
from horae.cli.watch import describe


async def test_a_run_that_is_out_of_retries_is_told_as_its_attempts_are():
    app = Horae("test")

    @app.schedule("broken", manual(), retry=Retry(2, delay="1 second", jitter=0))
    def broken() -> None:
        raise KeyError("nothing")

    async with testing.engine(app) as engine:
        await engine.trigger_schedule("broken")
        await engine.advance("1 minute")
        lines = [line for event in engine.log() if (line := describe(event)) is not None]
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "failed      broken                        try 1, next in 1 s: KeyError: 'nothing'",
        "DEAD        broken                        after 2 tries: KeyError: 'nothing'",
    ]
