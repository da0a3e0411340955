// The cost of artifacts in NATS, compared with the object store client of NATS itself, which keeps no copy on
// the node and does not check whether the bytes are already there.

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Artifacts, Digest } from "@formation-mcp/artifacts";
import { openNatsArtifacts } from "@formation-mcp/artifacts/nats";
import { connectNats, type NatsConnection } from "@formation-mcp/os/nats";
import { startNats } from "@formation-mcp/os/testing/nats-server";
import { type ObjectStore, Objm } from "@nats-io/obj";
import { type Busy, watchCores } from "./busy.ts";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";
import { pairs, ratioOfMedians, timed } from "./statistics.ts";

const MiB = 1024 * 1024;
const BYTES = 64 * MiB;
const PIECE = 256 * 1024;
const PAIRS = 8;
/** How many blobs are moved each way in one measurement. */
const COSTED = 4;

export async function benchArtifacts(scope: Scope): Promise<void> {
  const server = await startNats();
  scope.defer(() => server.stop());
  const connect = async () => {
    const connection = await connectNats({ servers: [server.url], name: "bench" });
    scope.defer(() => connection.close());
    return connection;
  };
  const connection = await connect();
  const raw = await new Objm(await connect()).create("raw");
  const nodes = new Nodes(connection, scope.directory());
  const content = contents();
  await compare(
    "artifacts: put of 64 MiB",
    () => putOurs(nodes, content()),
    () => putRaw(raw, content()),
  );
  await compare(
    "artifacts: get of 64 MiB",
    () => getOurs(nodes, content()),
    () => getRaw(raw, content()),
  );
  await costs(nodes, content);
}

/** Prints the CPU time per GiB, of NATS and of the process that sends or fetches it. */
async function costs(nodes: Nodes, content: () => Uint8Array): Promise<void> {
  const told = ({ by, seconds }: Busy) => {
    const each = (name: string) => (((by[name] ?? 0) * seconds * 1024 * MiB) / (COSTED * BYTES)).toFixed(1);
    return `NATS ${each("nats")} s, the node ${each("bench")} s`;
  };
  let watch = watchCores();
  const digests: Digest[] = [];
  await nodes.use(async (node) => {
    for (let i = 0; i < COSTED; i++)
      digests.push((await node.put(pieces(content()), { maxBytes: BYTES })).digest);
  });
  process.stdout.write(`artifacts: CPU time of a GiB put: ${told(watch())}\n`);
  watch = watchCores();
  await nodes.use(async (node) => {
    for (const digest of digests) await drained(await node.get(digest));
  });
  process.stdout.write(`artifacts: CPU time of a GiB got: ${told(watch())}\n`);
}

async function compare(
  name: string,
  ours: () => Promise<number>,
  baseline: () => Promise<number>,
): Promise<void> {
  const result = ratioOfMedians(await pairs(PAIRS, ours, baseline, progress(name, PAIRS)));
  const against = `the object store's client, ${Math.round(result.baseline)} MiB/s here`;
  print({ name, limit: { atLeast: 0.8 }, judge: "ratio", result, against });
}

/** Nodes with empty caches. */
class Nodes {
  readonly #connection: NatsConnection;
  readonly #directory: string;
  #made = 0;

  constructor(connection: NatsConnection, directory: string) {
    this.#connection = connection;
    this.#directory = directory;
  }

  async use<T>(action: (node: Artifacts) => Promise<T>): Promise<T> {
    const cacheDir = join(this.#directory, `${this.#made++}`);
    const node = await openNatsArtifacts({ connection: this.#connection, cacheDir });
    try {
      return await action(node);
    } finally {
      await node.close();
      rmSync(cacheDir, { recursive: true });
    }
  }
}

async function putOurs(nodes: Nodes, content: Uint8Array): Promise<number> {
  return await nodes.use(async (node) => {
    const took = await timed(() => node.put(pieces(content), { maxBytes: BYTES }));
    await node.collect([], 0);
    return speed(took);
  });
}

async function getOurs(nodes: Nodes, content: Uint8Array): Promise<number> {
  let digest: Digest | undefined;
  await nodes.use(async (node) => {
    digest = (await node.put(pieces(content), { maxBytes: BYTES })).digest;
  });
  return await nodes.use(async (node) => {
    const took = await timed(async () => drained(await node.get(digest as Digest)));
    await node.collect([], 0);
    return speed(took);
  });
}

async function putRaw(raw: ObjectStore, content: Uint8Array): Promise<number> {
  const took = await timed(() => raw.put({ name: "object" }, ReadableStream.from(pieces(content))));
  await raw.delete("object");
  return speed(took);
}

async function getRaw(raw: ObjectStore, content: Uint8Array): Promise<number> {
  await raw.put({ name: "object" }, ReadableStream.from(pieces(content)));
  const took = await timed(async () => {
    const found = await raw.get("object");
    if (found === null) throw new Error("the object is gone");
    await drained(found.data);
    await found.error;
  });
  await raw.delete("object");
  return speed(took);
}

/** MiB per second. */
function speed(ms: number): number {
  return BYTES / MiB / (ms / 1000);
}

/** The same bytes except for a few, so that no two blobs have the same content. */
function contents(): () => Uint8Array {
  const bytes = Buffer.alloc(BYTES);
  for (let at = 0; at < BYTES; at += 4) bytes.writeUInt32LE(Math.imul(at, 0x9e3779b1) >>> 0, at);
  let made = 0;
  return () => {
    bytes.writeUInt32LE(++made, 0);
    return bytes;
  };
}

async function* pieces(bytes: Uint8Array): AsyncIterable<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < bytes.length; at += PIECE)
    yield bytes.slice(at, at + PIECE) as Uint8Array<ArrayBuffer>;
}

async function drained(content: AsyncIterable<Uint8Array>): Promise<void> {
  let bytes = 0;
  for await (const chunk of content) bytes += chunk.byteLength;
  if (bytes !== BYTES) throw new Error(`${bytes} bytes came instead of ${BYTES}`);
}
