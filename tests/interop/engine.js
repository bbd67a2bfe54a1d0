// Commands and queries of one tenant, for the programs beside this file.

import { randomUUID } from "node:crypto";
import { headers } from "@nats-io/transport-node";

export const PATIENCE_MS = 30_000;

export class Refused extends Error {
  constructor(subject, error) {
    super(`${subject}: ${error.code}: ${error.message}`);
    this.code = error.code;
  }
}

export function engine(nc, tenant) {
  // One request; a command carries a key, so that asking again is safe.
  async function ask(kind, name, body) {
    const subject = `horae.${tenant}.${kind}.${name}`;
    const options = { timeout: 5_000 };
    if (kind === "command") {
      options.headers = headers();
      options.headers.set("Horae-Idempotency-Key", randomUUID());
    }
    const reply = await nc.request(subject, JSON.stringify(body), options);
    const answer = reply.json();
    if (answer.ok) return answer;
    const code = reply.headers?.get("Nats-Service-Error-Code");
    if (!code) throw new Error(`${subject}: a refusal without Nats-Service-Error-Code`);
    throw new Refused(subject, answer.error);
  }

  // The read model follows the history: ask until it says so.
  async function succeeded(id) {
    const deadline = Date.now() + PATIENCE_MS;
    let last = "nothing";
    while (Date.now() < deadline) {
      try {
        const answer = await ask("query", "execution.get", { id });
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

  return { ask, succeeded };
}
