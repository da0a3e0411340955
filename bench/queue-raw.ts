// The baseline of the queue: a JetStream work queue with one pull consumer, used with the plain protocol of
// NATS, and one UPDATE … RETURNING in PostgreSQL.

import { connectNats, type NatsConnection } from "@formation-mcp/os/nats";
import { Client } from "pg";
import type { Scope } from "./scope.ts";

const REQUEST = JSON.stringify({ batch: 1, expires: 60_000_000_000 });
const NEXT = "$JS.API.CONSUMER.MSG.NEXT.RAW.raw";

/** Measures the time of a message from its publication to the end of `taken`. */
export interface RawQueue {
  send(body: string, taken: (body: string) => Promise<void> | void): Promise<number>;
}

export async function rawQueue(scope: Scope, url: string): Promise<RawQueue> {
  const [from, to] = [await connect(scope, url), await connect(scope, url)];
  const make = async (call: string, body: object) => {
    const answer = await from.request(`$JS.API.${call}`, JSON.stringify(body));
    const { error } = answer.json<{ error?: { description: string } }>();
    if (error) throw new Error(error.description);
  };
  await make("STREAM.CREATE.RAW", {
    name: "RAW",
    subjects: ["raw"],
    retention: "workqueue",
    storage: "file",
  });
  const config = { durable_name: "raw", filter_subject: "raw", ack_policy: "explicit" };
  await make("CONSUMER.CREATE.RAW.raw.raw", { stream_name: "RAW", config });
  let hear: (body: string) => Promise<void> = async () => {};
  to.subscribe("raw-inbox", {
    callback: (_, message) => {
      if (!message.reply) return;
      void hear(message.string());
      message.respond("+ACK");
      to.publish(NEXT, REQUEST, { reply: "raw-inbox" });
    },
  });
  to.publish(NEXT, REQUEST, { reply: "raw-inbox" });
  await to.flush();
  return {
    async send(body, taken) {
      const start = performance.now();
      const arrived = new Promise<number>((resolve, reject) => {
        hear = async (text) => {
          try {
            await taken(text);
            resolve(performance.now() - start);
          } catch (error) {
            reject(error);
          }
        };
      });
      await from.request("raw", body);
      return await arrived;
    },
  };
}

export async function connect(scope: Scope, url: string): Promise<NatsConnection> {
  const connection = await connectNats({ servers: [url], name: "bench" });
  scope.defer(() => connection.close());
  return connection;
}

/** Claims a row in one statement: a submitted operation, or a minimal row. */
export interface RawClaims {
  claim(id: string): Promise<void>;
  addBare(id: string): Promise<void>;
  claimBare(id: string): Promise<void>;
}

export async function rawClaims(scope: Scope, url: string): Promise<RawClaims> {
  const client = new Client({ connectionString: url });
  await client.connect();
  scope.defer(() => client.end());
  await client.query(
    "CREATE TABLE bare_operations (id text PRIMARY KEY, state text, attempt int, lease_until bigint, body jsonb)",
  );
  const one = async (name: string, text: string, values: unknown[]) => {
    const { rowCount } = await client.query({ name, text, values });
    if (rowCount !== 1) throw new Error("nothing was claimed");
  };
  return {
    claim: (id) =>
      one(
        "claim",
        `UPDATE formation.operations SET state = 'running', attempt = attempt + 1, claimed_by = 'raw', lease_until = $2,
            started_at = $3, updated_at = $3, version = version + 1
          WHERE id = $1 AND state = 'queued' RETURNING *`,
        [id, Date.now() + 3_600_000, Date.now()],
      ),
    async addBare(id) {
      await client.query("INSERT INTO bare_operations VALUES ($1, 'queued', 0, NULL, '{}')", [id]);
    },
    claimBare: (id) =>
      one(
        "claim-bare",
        `UPDATE bare_operations SET state = 'running', attempt = attempt + 1, lease_until = $2
          WHERE id = $1 AND state = 'queued' RETURNING *`,
        [id, Date.now() + 3_600_000],
      ),
  };
}
