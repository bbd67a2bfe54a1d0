"""An application of its own process, for a test that kills it: it notes each event that it hears."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from horae import Context, Horae, on_event
from horae_infrastructure.settings import Settings

app = Horae("desk")


@app.schedule("hear", on_event("tick"), retry={"max_attempts": 100, "delay": 0})
async def hear(ctx: Context, data: dict[str, Any]) -> None:
    del ctx, data


async def main() -> None:
    settings = Settings.read(
        store_url="sqlite:///horae.db",
        redis_url="memory://",
        nats_url=os.environ["DESK_NATS"],
        data_dir=Path(os.environ["DESK_DIR"]),
        events=False,
    )
    async with app.serve(settings):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
