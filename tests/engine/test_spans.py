"""Spans of OpenTelemetry from whoever asks to the handler, and the baggage that goes along (O3, A5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from horae import Call, Context, Horae, HoraeError, Retry, connect, every, manual, on_event, testing
from horae.client import Client
from horae_infrastructure.settings import Settings

PATIENCE = 100


class Spans:
    """Those that have ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, name: str) -> list[ReadableSpan]:
        return [each for each in self._exporter.get_finished_spans() if each.name == name]

    def below(self, parent: ReadableSpan | trace.Span, name: str) -> list[ReadableSpan]:
        """The children of a span."""
        return [each for each in self.named(name) if parent_of(each) == id_of(parent)]


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Spans:
    exporter.clear()
    return Spans(exporter)


def id_of(span: ReadableSpan | trace.Span) -> int:
    found = span.get_span_context()
    assert found is not None
    return found.span_id


def trace_of(span: ReadableSpan | trace.Span) -> str:
    found = span.get_span_context()
    assert found is not None
    return f"{found.trace_id:032x}"


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


tracer = trace.get_tracer("test")


def desk() -> Horae:
    """Fails at first; then it triggers another schedule and asks a service."""
    app = Horae("desk")
    service = app.service("trading")

    @app.schedule("job", manual(), retry=Retry(3, delay="0s"), isolation="thread")
    def job(ctx: Context) -> Any:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        with tracer.start_as_current_span("own"):
            other = ctx.run(ctx.trigger_schedule("other"))
        told = ctx.run(ctx.send_command("trading", "Look", reply=True))
        return {"other": other, "told": told, "baggage": dict(ctx.baggage)}

    @service.command("Look")
    async def look(call: Call) -> Any:
        return {"traceparent": call.traceparent, **call.carried}

    @app.schedule("other", manual())
    async def other(ctx: Context) -> Any:
        return {"baggage": dict(ctx.baggage), "cause": ctx.causation_id}

    return app


async def ended(client: Client, id_: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(HoraeError):
                found: dict[str, Any] = await client.get_execution(id_)
                if found["status"] in {"succeeded", "failed", "dead"}:
                    return found
            await asyncio.sleep(0.05)


async def declared(client: Client, id_: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(HoraeError):
                await client.get_schedule(id_)
                return
            await asyncio.sleep(0.05)


async def test_one_trace_from_the_client_over_nats_to_the_handler_and_to_what_it_sends(
    nats_url: str, tmp_path: Path, spans: Spans
) -> None:
    told = Settings.read(
        store_url="memory://", nats_url=nats_url, tenant="spans", data_dir=tmp_path, events=False
    )
    engine = Horae("engine").serve(told, roles=("engine", "views"))
    executor = desk().serve(told, roles=("executor",))
    async with engine, executor, connect(nats_url, tenant="spans") as client:
        await declared(client, "job")
        await declared(client, "other")
        with tracer.start_as_current_span("client") as asked:
            token = context.attach(baggage.set_baggage("desk", "a"))
            run = (await client.trigger_schedule("job"))["execution_id"]
            context.detach(token)
        first = await ended(client, run)
        follower = await ended(client, first["result"]["other"])

    assert first["trace_id"] == follower["trace_id"] == trace_of(asked)
    (command,) = spans.below(asked, "horae.command schedule.trigger")
    assert command.kind is trace.SpanKind.SERVER
    failed, succeeded = spans.below(command, "horae.attempt job")
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.attributes["horae.execution_id"] == run
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert succeeded.status.status_code is trace.StatusCode.UNSET
    (own,) = spans.below(succeeded, "own")
    (inner,) = spans.below(own, "horae.command schedule.trigger")
    assert len(spans.below(inner, "horae.attempt other")) == 1
    assert first["result"]["baggage"] == {"desk": "a"}
    looked = first["result"]["told"]
    assert looked["traceparent"].split("-")[1:3] == [trace_of(asked), f"{id_of(succeeded):016x}"]
    assert follower["result"] == {"baggage": {"desk": "a"}, "cause": run}


async def test_run_of_the_calendar_is_the_root_of_its_trace(spans: Spans) -> None:
    app = Horae("desk")

    @app.schedule("job", every("1 minute"))
    async def job(ctx: Context) -> str | None:
        return ctx.traceparent

    async with testing.engine(app) as engine:
        await engine.advance("1 minute")
        (run,) = (await engine.list_executions())["executions"]
        shown = await engine.get_execution(run["id"])
    (attempt,) = spans.named("horae.attempt job")
    assert trace_of(attempt) == shown["trace_id"] == run["id"].replace("-", "")
    assert shown["result"].split("-")[2] == f"{id_of(attempt):016x}"


async def test_refused_command_is_a_failed_span(spans: Spans) -> None:
    async with testing.engine() as engine:
        with pytest.raises(HoraeError):
            await engine.trigger_schedule("nowhere")
    (refused,) = spans.named("horae.command schedule.trigger")
    assert refused.status.status_code is trace.StatusCode.ERROR
    assert refused.attributes is not None
    assert refused.attributes["error.type"] == "schedule_not_found"


class Remind(BaseModel):
    """A command of the application."""


async def test_baggage_of_a_client_goes_on_with_events_and_scheduled_commands() -> None:
    app = Horae("desk")
    seen: dict[str, tuple[dict[str, str], str | None, str]] = {}

    def note(name: str, ctx: Context) -> None:
        seen[name] = dict(ctx.baggage), ctx.causation_id, ctx.correlation_id

    @app.schedule("start", manual())
    async def start(ctx: Context) -> None:
        note("start", ctx)
        await ctx.schedule(Remind(), after="1 minute")
        await ctx.client.publish_event("order.placed", {}, id="e-1")

    @app.schedule("hear", on_event("order.placed"))
    async def hear(ctx: Context) -> None:
        note("hear", ctx)

    @app.command
    async def remind(ctx: Context, command: Remind) -> None:
        note("remind", ctx)

    async with testing.engine(app) as engine:
        desk = engine.with_baggage({"desk": "a"})
        run = (await desk.trigger_schedule("start"))["execution_id"]
        await engine.advance("1 minute")
        with pytest.raises(HoraeError) as caught:
            engine.with_baggage({"desk": "x" * 9000})
    assert caught.value.code == "baggage_too_large"
    carried = {"desk": "a"}
    assert seen == {
        "start": (carried, None, run),
        "hear": (carried, run, run),
        "remind": (carried, run, run),
    }
