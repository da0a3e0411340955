// The REST API over real parts: store, queue, artifacts, control, authority, audit log. Requests come without
// a network.

import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Artifacts } from "@formation-mcp/artifacts";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import type { Scope } from "@formation-mcp/auth";
import { type Authority, createAuthority } from "@formation-mcp/auth/authority";
import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { NO_QUOTA, silentLogger } from "@formation-mcp/contract";
import {
  type Audit,
  createControl,
  createNodes,
  createQuotas,
  openAudit,
  type Quotas,
} from "@formation-mcp/control";
import type { GatewayDeps } from "@formation-mcp/gateway";
import type { Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { startFakeWorker } from "@formation-mcp/pack-manager/testing/fake-worker";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { Hono } from "hono";
import { bearerAuth } from "../../src/http/bearer-auth.ts";
import type { Env } from "../../src/http/deps.ts";
import { restRoutes } from "../../src/rest/routes.ts";

export type Json = Record<string, unknown>;

export const PUBLIC_URL = "https://vm.example.org";

interface Said {
  status: number;
  headers: Headers;
  body: Json;
  /** `data` of the envelope. */
  data: Json;
}

export interface World extends AsyncDisposable {
  deps: GatewayDeps;
  store: Store;
  artifacts: Artifacts;
  authority: Authority;
  audit: Audit;
  quotas: Quotas;
  /** The offset of the clock of the authority and the gateway. */
  time: { offset: number };
  fetch(request: Request): Promise<Response>;
  /** Sends JSON and reads the envelope. */
  ask(
    method: string,
    path: string,
    options?: { token?: string; json?: unknown; headers?: Json },
  ): Promise<Said>;
  /** A key whose account has these scopes. */
  someone(scopes: readonly Scope[]): Promise<Someone>;
  /** A worker begins to work, with engines that run everything as child processes. */
  work(): Promise<void>;
}

export interface Someone {
  key: KeyPair;
  owner: string;
  token: string;
  refresh: string;
}

export const EVERYTHING: readonly Scope[] = [
  "pack:read",
  "pack:write",
  "vm:read",
  "vm:write",
  "operation:read",
  "operation:write",
];

export async function openWorld(): Promise<World> {
  const dir = await mkdtemp(join(tmpdir(), "formation-rest-"));
  const time = { offset: 0 };
  const clock = { now: () => Date.now() + time.offset };
  const store = await openSqliteStore({ path: join(dir, "store.db") });
  const queue = await openEmbeddedQueue({ path: join(dir, "queue.db") });
  const artifacts = await openDirectoryArtifacts({ path: join(dir, "artifacts") });
  const audit = openAudit({ store: store.audit });
  const { documents, counters } = store;
  const quotas = createQuotas({ documents, defaults: NO_QUOTA });
  const control = createControl({ store, queue, artifacts, audit, quotas });
  const authority = createAuthority({
    documents,
    issuer: PUBLIC_URL,
    audience: `${PUBLIC_URL}/mcp`,
    masterKey: new Uint8Array(32).fill(7),
    clock,
  });
  const deps: GatewayDeps = {
    control,
    authority,
    audit,
    auditLog: store.audit,
    quotas,
    nodes: createNodes({ store, queue, clock }),
    usage: (owner) => store.usage(owner),
    documents,
    counters,
    artifacts,
    queue,
    publicUrl: PUBLIC_URL,
    version: "1.2.3",
    clock,
    logger: silentLogger,
    random: randomBytes,
  };
  const app = new Hono<Env>();
  app.use(async (c, next) => {
    c.set("address", "192.0.2.7");
    c.set("traceId", "0123456789abcdef0123456789abcdef");
    await next();
  });
  app.route("/api", restRoutes(deps, bearerAuth(deps)));
  const closing: (() => Promise<void>)[] = [];

  const fetch = async (request: Request) => app.fetch(request);
  const world: World = {
    deps,
    store,
    artifacts,
    authority,
    audit,
    quotas,
    time,
    fetch,
    async ask(method, path, { token, json, headers = {} } = {}) {
      const response = await fetch(
        new Request(`${PUBLIC_URL}${path}`, {
          method,
          headers: {
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
            ...(json === undefined ? {} : { "content-type": "application/json" }),
            ...(headers as Record<string, string>),
          },
          ...(json === undefined ? {} : { body: JSON.stringify(json) }),
        }),
      );
      const body = (await response.json()) as Json;
      return { status: response.status, headers: response.headers, body, data: (body["data"] ?? {}) as Json };
    },
    async someone(scopes) {
      const key = generateKey("secp256k1");
      await authority.admit({ id: keyId(key) }, new Set(scopes));
      const { message } = await authority.challenge({ address: keyId(key) });
      const { signature } = signMessage(key, message);
      const pair = await authority.signIn({ message, signature });
      return { key, owner: pair.owner, token: pair.access_token, refresh: pair.refresh_token ?? "" };
    },
    async work() {
      closing.push(await startFakeWorker(dir, { store, queue, artifacts }));
    },
    async [Symbol.asyncDispose]() {
      for (const close of closing) await close();
      await audit.close();
      await queue.close();
      await artifacts.close();
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
  return world;
}

/** Polls until something holds. */
export async function until(holds: () => Promise<boolean> | boolean, limitMs = 20_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error("it never held");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
