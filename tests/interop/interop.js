// A worker that is not Python: creates a schedule, pulls its work, does it and reports, over NATS.
//
//     npm ci && node interop.js [nats://127.0.0.1:4222] [tenant]
//
// It knows nothing of Horae but its subjects and JSON. It ends with 0 if the engine says that the
// execution has succeeded with the result reported here, else with 1 and the reason.

import { randomUUID } from "node:crypto";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";

const [url = "nats://127.0.0.1:4222", tenant = "default"] = process.argv.slice(2);
const run = randomUUID().slice(0, 8);
const queue = `interop-${run}`;
const schedule = `interop-${run}`;
const PATIENCE_MS = 30_000;

class Refused extends Error {
  constructor(subject, error) {
    super(`${subject}: ${error.code}: ${error.message}`);
    this.code = error.code;
  }
}

// One request; a command carries a key, so that asking again is safe.
async function ask(nc, kind, name, body) {
  const subject = `horae.${tenant}.${kind}.${name}`;
  const options = { timeout: 5_000 };
  if (kind === "command") {
    options.headers = headers();
    options.headers.set("Horae-Idempotency-Key", randomUUID());
    options.headers.set("Horae-Correlation-Id", `interop-${run}`);
  }
  const reply = await nc.request(subject, JSON.stringify(body), options);
  const answer = reply.json();
  if (answer.ok) return answer;
  const code = reply.headers?.get("Nats-Service-Error-Code");
  if (!code) throw new Error(`${subject}: a refusal without Nats-Service-Error-Code`);
  throw new Refused(subject, answer.error);
}

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
  const { pull, remove } = await consumer(nc);

  try {
    await ask(nc, "command", "schedule.create", { id: schedule, trigger: { type: "moon" } });
    throw new Error("a trigger that does not exist was accepted");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.log(`refused, as it should be: ${error.message}`);
  }

  const created = await ask(nc, "command", "schedule.create", {
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
  const started = await ask(nc, "command", "execution.start", {
    execution_id,
    attempt,
    lease: work.lease,
    worker: "node",
  });
  const result = { echo: work.payload, node: process.version };
  await ask(nc, "command", "execution.report", {
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

  const execution = await succeeded(nc, execution_id);
  if (JSON.stringify(execution.result) !== JSON.stringify(result)) {
    throw new Error(`the result is ${JSON.stringify(execution.result)}`);
  }
  await remove();
  console.log(`succeeded with ${JSON.stringify(execution.result)}`);
}

// The read model follows the history: ask until it says so.
async function succeeded(nc, id) {
  const deadline = Date.now() + PATIENCE_MS;
  let last = "nothing";
  while (Date.now() < deadline) {
    try {
      const answer = await ask(nc, "query", "execution.get", { id });
      const execution = answer.execution ?? answer;
      last = execution.status;
      if (last === "succeeded") return execution;
    } catch (error) {
      if (!(error instanceof Refused) || !["execution_not_found", "unavailable"].includes(error.code)) {
        throw error;
      }
      last = error.message;
    }
    await new Promise((resume) => setTimeout(resume, 100));
  }
  throw new Error(`the execution has not succeeded; the last answer was: ${last}`);
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
