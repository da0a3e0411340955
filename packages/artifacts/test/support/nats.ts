// One nats-server for a test file, and test stores on it that start empty.

import { readdirSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Artifacts, Digest } from "@formation-mcp/artifacts";
import { type NatsArtifactsOptions, openNatsArtifacts } from "@formation-mcp/artifacts/nats";
import { connectNats, type NatsConnection } from "@formation-mcp/os/nats";
import type { NatsServer } from "@formation-mcp/os/testing/nats-server";
import { jetstreamManager } from "@nats-io/jetstream";

const BLOBS = "OBJ_formation-blobs";
export const LOGS = "FORMATION_LOGS";

/** An empty store. Each node has its own connection and cache. */
export class NatsWorld {
  readonly server: NatsServer;
  readonly root: string;
  readonly #connections: NatsConnection[] = [];
  readonly #opened: Artifacts[] = [];

  private constructor(server: NatsServer, root: string) {
    this.server = server;
    this.root = root;
  }

  static async open(server: NatsServer): Promise<NatsWorld> {
    const world = new NatsWorld(server, await mkdtemp(join(tmpdir(), "artifacts-nats-")));
    const manager = await jetstreamManager(await world.connect());
    for (const name of [BLOBS, LOGS]) await manager.streams.delete(name).catch(() => {});
    return world;
  }

  async connect(): Promise<NatsConnection> {
    const connection = await connectNats({ servers: [this.server.url], name: "test", reconnectMs: 50 });
    this.#connections.push(connection);
    return connection;
  }

  async node(options: Partial<NatsArtifactsOptions> = {}): Promise<Artifacts> {
    const cacheDir = this.cacheOf(this.#opened.length);
    const artifacts = await openNatsArtifacts({ connection: await this.connect(), cacheDir, ...options });
    this.#opened.push(artifacts);
    return artifacts;
  }

  cacheOf(node: number): string {
    return join(this.root, `cache${node}`);
  }

  /** Removes the copies on all nodes. */
  forget(): void {
    for (const node of this.#opened.keys()) {
      const shelves = join(this.cacheOf(node), "sha256");
      for (const shelf of readdirSync(shelves))
        rmSync(join(shelves, shelf), { recursive: true, force: true });
    }
  }

  /** Changes a byte of a blob in the store, like an unnoticed failure of a disk. */
  async damage(digest: Digest): Promise<void> {
    const [connection] = this.#connections;
    if (!connection) throw new Error("not open");
    const { streams } = await jetstreamManager(connection);
    const name = `$O.formation-blobs.M.${Buffer.from(digest).toString("base64").replaceAll("+", "-").replaceAll("/", "_")}`;
    const head = await streams.getMessage(BLOBS, { last_by_subj: name });
    if (!head) throw new Error("no such blob");
    const info = head.json<{ nuid: string; metadata: { chunks: string } }>();
    const first = Number(info.metadata.chunks.split(/[-,]/)[0]);
    const chunk = await streams.getMessage(BLOBS, { seq: first });
    if (!chunk) throw new Error("no such chunk");
    const bytes = Buffer.from(chunk.data);
    bytes[0] = (bytes[0] ?? 0) ^ 1;
    const wrong = await connection.request(chunk.subject, bytes);
    const seq = (JSON.parse(wrong.string()) as { seq: number }).seq;
    const chunks = info.metadata.chunks.replace(/^\d+-?/, (run) =>
      run.endsWith("-") ? `${seq},${first + 1}-` : `${seq}`,
    );
    await connection.request(name, JSON.stringify({ ...info, metadata: { chunks } }));
    this.forget();
  }

  async close(): Promise<void> {
    for (const artifacts of this.#opened) await artifacts.close();
    for (const connection of this.#connections) await connection.close();
    rmSync(this.root, { recursive: true, force: true });
  }
}
