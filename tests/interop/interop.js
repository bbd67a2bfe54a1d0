// A worker that is not Python: creates a schedule, pulls its work, does it and reports, over NATS.
//
//     npm ci && node interop.js [nats://127.0.0.1:4222] [tenant]
//
// It knows nothing of Horae but its subjects and JSON. It ends with 0 if the engine says that the
// execution has succeeded with the result reported here, else with 1 and the reason.

import { randomUUID } from "node:crypto";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { engine, PATIENCE_MS, Refused } from "./engine.js";

const [url = "nats://127.0.0.1:4222", tenant = "default"] = process.argv.slice(2);
const run = randomUUID().slice(0, 8);
const queue = `interop-${run}`;
const schedule = `interop-${run}`;

async function consumer(nc) {
  const manager = await jetstreamManager(nc);
  const durable = `work=${tenant}=${queue}`;
  await manager.consumers.add("HORAE_WORK", {
    durable_name: durable,
    filter_subject: `horae.${tenant}.work.${queue}.*`,
    ack_policy: AckPolicy.Explicit,
    ack_wait: 30_000_000_000,
  });
  const remove = () => manager.consumers.delete("HORAE_WORK", durable);
  return { pull: await jetstream(nc).consumers.get("HORAE_WORK", durable), remove };
}

async function main(nc) {
  const { ask, succeeded } = engine(nc, tenant);
  const { pull, remove } = await consumer(nc);

  try {
    await ask("command", "schedule.create", { id: schedule, trigger: { type: "moon" } });
    throw new Error("a trigger that does not exist was accepted");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.log(`refused, as it should be: ${error.message}`);
  }

  const created = await ask("command", "schedule.create", {
    id: schedule,
    trigger: { type: "once", after: "0s" },
    action: { type: "queue", queue },
    payload: { greeting: "hello from JavaScript" },
    queue,
  });
  console.log(`created ${schedule} at position ${created.position}`);

  const message = await pull.next({ expires: PATIENCE_MS });
  if (!message) throw new Error("no work arrived");
  const work = message.json();
  console.log(`pulled ${work.execution_id} from ${message.subject}, lease ${work.lease}`);

  const { execution_id, attempt } = work;
  const started = await ask("command", "execution.start", {
    execution_id,
    attempt,
    lease: work.lease,
    worker: "node",
  });
  const result = { echo: work.payload, node: process.version };
  await ask("command", "execution.report", {
    execution_id,
    attempt,
    lease: started.lease ?? work.lease,
    outcome: "succeeded",
    result,
    worker: "node",
    logs: [{ level: "info", message: "done in JavaScript" }],
  });
  message.ack();
  console.log("reported and acknowledged");

  const execution = await succeeded(execution_id);
  if (JSON.stringify(execution.result) !== JSON.stringify(result)) {
    throw new Error(`the result is ${JSON.stringify(execution.result)}`);
  }
  await remove();
  console.log(`succeeded with ${JSON.stringify(execution.result)}`);
}

const nc = await connect({ servers: url, name: "interop" });
try {
  await main(nc);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await nc.drain();
}
