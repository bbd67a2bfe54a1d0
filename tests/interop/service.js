// A service that is not Python: Horae sends it commands, it answers them.
//
//     npm ci && node service.js [nats://127.0.0.1:4222] [tenant]
//
// It is found by NATS's own discovery, refuses a command once, answers it when it comes again, and
// takes from JetStream what nobody waits for. It ends with 0 if the engine has recorded all of that.

import { randomUUID } from "node:crypto";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";
import { engine, PATIENCE_MS } from "./engine.js";

const [url = "nats://127.0.0.1:4222", tenant = "default"] = process.argv.slice(2);
const service = `trading-${randomUUID().slice(0, 8)}`;
const prefix = tenant === "default" ? "" : `horae.${tenant}.`;
const subject = `${prefix}commands.${service}.Rebalance`;

// What a micro library does by itself: say who we are, and where we answer.
function discovered(nc) {
  const endpoints = [{ name: "Rebalance", subject, queue_group: "q", metadata: {} }];
  const type = "io.nats.micro.v1.info_response";
  const info = { type, name: service, id: randomUUID(), version: "1.0.0", metadata: {}, endpoints };
  nc.subscribe("$SRV.INFO", { callback: (_error, msg) => msg.respond(JSON.stringify(info)) });
}

// The first attempt is told to come again; what was done under a key is not done twice.
function answers(nc) {
  const seen = [];
  const callback = (_error, msg) => {
    if (msg.headers?.has("Horae-Sequence")) return; // a copy: it comes from the stream
    const attempt = Number(msg.headers.get("Horae-Attempt"));
    seen.push({ attempt, key: msg.headers.get("Horae-Idempotency-Key"), data: msg.json() });
    if (attempt === 1) {
      const told = headers();
      told.set("Nats-Service-Error", "the market is closed");
      told.set("Nats-Service-Error-Code", "503");
      told.set("Retry-After", "1");
      msg.respond("", { headers: told });
    } else {
      msg.respond(JSON.stringify({ rebalanced: msg.json().book, workflow_id: "w-1" }));
    }
  };
  nc.subscribe(subject, { queue: "q", callback });
  return seen;
}

async function kept(nc) {
  const durable_name = `command-${service}`;
  const manager = await jetstreamManager(nc);
  await manager.consumers.add("HORAE_COMMANDS", {
    durable_name,
    filter_subject: `horae.${tenant}.send.${service}.*`,
    ack_policy: AckPolicy.Explicit,
  });
  const consumer = await jetstream(nc).consumers.get("HORAE_COMMANDS", durable_name);
  const message = await consumer.next({ expires: PATIENCE_MS });
  message?.ack();
  await manager.consumers.delete("HORAE_COMMANDS", durable_name);
  return message;
}

// The engine gives services a second to say who they are; a busy machine may need another one.
async function accepted(ask, definition) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await ask("command", "schedule.create", definition);
    } catch (error) {
      if (error.code !== "unknown_handler" || Date.now() > deadline) throw error;
    }
  }
}

function check(condition, complaint) {
  if (!condition) throw new Error(complaint);
}

async function main(nc) {
  const { ask, succeeded } = engine(nc, tenant);
  discovered(nc);
  const seen = answers(nc);
  await nc.flush();

  const run = async (id, action, payload) => {
    const trigger = { type: "manual" };
    await accepted(ask, { id: `${service}.${id}`, trigger, action, payload });
    const { execution_id } = await ask("command", "schedule.trigger", { id: `${service}.${id}` });
    return succeeded(execution_id);
  };

  const command = { type: "command", service, command: "Rebalance" };
  const answered = await run("request", { ...command, reply: true, timeout: "5 seconds" }, { book: "A" });
  check(answered.result.rebalanced === "A", `the result is ${JSON.stringify(answered.result)}`);
  check(answered.metadata.workflow_id === "w-1", "the workflow's id is not in the metadata");
  check(answered.attempts[0].error.message === "503: the market is closed", "the refusal is lost");
  check(seen.length === 2 && seen[0].key === seen[1].key, `asked: ${JSON.stringify(seen)}`);
  console.log(`asked twice under the key ${seen[0].key}, answered once`);

  const sent = await run("send", { ...command, reply: false }, { book: "B" });
  const message = await kept(nc);
  check(message?.json().book === "B", "nothing was kept for this service");
  check(message.seq === sent.result.sequence, `kept as ${message.seq}`);
  check(seen.length === 2, "the copy of what is kept was taken for a request");
  console.log(`took ${message.subject} number ${message.seq} from HORAE_COMMANDS`);
}

const nc = await connect({ servers: url, name: service });
try {
  await main(nc);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await nc.drain();
}
