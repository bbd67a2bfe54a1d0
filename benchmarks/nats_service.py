"""Requests a second over NATS to a handler that only answers: the cost of the way itself.

    python benchmarks/nats_service.py [--seconds 3] [--in-flight 64] [--uvloop]

The service runs in a process of its own; the caller is this one. For comparison the same load goes
to a bare subscription that answers a constant, and the caller is once the driver's `request` and
once `NatsCaller`.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import time

from nats.aio.client import Client

from horae_application.messages import COMMANDS, Reply, Request
from horae_infrastructure.embedded import Nats
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.nats.service import NatsService

BODY = {"id": "nightly-report", "note": "maintenance"}
DATA = b'{"id":"nightly-report","note":"maintenance"}'


async def answer(_request: Request) -> Reply:
    return Reply(200, {"ok": True, "position": "store.0.1", "id": "nightly-report"})


async def serve(url: str, ready) -> None:
    nc = await connect(url, name="service")
    service = NatsService(
        nc, commands=answer, queries=answer, command_names=COMMANDS, query_names=[], version="0.0.0"
    )
    await service.start()

    async def bare(msg):
        await nc.publish(msg.reply, b'{"ok":true,"position":"store.1","id":"nightly-report"}')

    await nc.subscribe("bare", cb=bare)
    await nc.flush()
    ready.set()
    await asyncio.Event().wait()


def process(url: str, ready, uvloop: bool) -> None:
    run(serve(url, ready), uvloop)


def run(main, uvloop: bool) -> None:
    if uvloop:
        import uvloop as loop

        loop.run(main)
    else:
        asyncio.run(main)


async def load(name: str, ask, seconds: float, in_flight: int) -> None:
    end, latencies = time.perf_counter() + seconds, []

    async def one() -> None:
        while (began := time.perf_counter()) < end:
            await ask()
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(in_flight)))
    rate = len(latencies) / (time.perf_counter() - began)
    cuts = statistics.quantiles(latencies, n=100)
    print(f"{name:28} {rate:8,.0f}/s   p50 {cuts[49] * 1e3:6.2f} ms   p99 {cuts[98] * 1e3:6.2f} ms")


async def measure(url: str, seconds: float, in_flight: int) -> None:
    nc: Client = await connect(url, name="caller")
    caller = NatsCaller(nc)
    subject = "horae.default.command.schedule.pause"
    await load("bare subscription", lambda: nc.request("bare", DATA, timeout=5), seconds, in_flight)
    await load(
        "service, bare request", lambda: nc.request(subject, DATA, timeout=5), seconds, in_flight
    )
    await load(
        "service, NatsCaller", lambda: caller.command("schedule.pause", BODY), seconds, in_flight
    )
    await close(nc)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with Nats() as server:
        ready = context.Event()
        child = context.Process(
            target=process, args=(server.url, ready, options.uvloop), daemon=True
        )
        child.start()
        ready.wait(30)
        run(measure(server.url, options.seconds, options.in_flight), options.uvloop)
        child.terminate()
        child.join()


if __name__ == "__main__":
    main()
