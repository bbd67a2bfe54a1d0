"""The application that the tests of the command line run."""

from horae import Context, Horae, Retry, every, manual

app = Horae("tested")


@app.schedule("tick", every("500ms"), tags=["often"])
async def tick(ctx: Context) -> int | None:
    return ctx.run_number


@app.schedule("broken", manual(), retry=Retry(1), name="Breaks every time")
def broken(ctx: Context) -> None:
    ctx.log.warning("about to break", attempt=ctx.attempt)
    raise ValueError("it is broken")


@app.schedule("patient", manual(), retry=Retry(3, delay="1 hour"))
async def patient(ctx: Context) -> None:
    raise RuntimeError("not today")


@app.handler("echo")
async def echo(ctx: Context) -> object:
    ctx.log("echo", said=ctx.payload)
    return ctx.payload
