// The gateway over a real database, queue and directory of artifacts. Requests come as a socket's handler
// makes them. The test sets the clock.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { allScopes, type Scope } from "@formation-mcp/auth";
import { type Authority, createAuthority } from "@formation-mcp/auth/authority";
import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { type AuditRecord, NO_QUOTA } from "@formation-mcp/contract";
import { createControl, createNodes, createQuotas, openAudit, type ToolBounds } from "@formation-mcp/control";
import { createHttpGateway, type GatewayDeps, type GatewaySettings } from "@formation-mcp/gateway";
import type { Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";

export type Json = Record<string, unknown>;

export interface TestGatewayOptions extends ToolBounds {
  publicUrl?: string;
  settings?: GatewaySettings;
  /** Parts that replace the real ones. */
  parts?: Partial<GatewayDeps>;
}

export interface TestGateway extends AsyncDisposable {
  authority: Authority;
  store: Store;
  /** Milliseconds since the epoch. */
  clock: { now: () => number; at: number };
  /** Lines of the log. */
  logged: { level: string; message: string; fields: Json }[];
  /** A new key with an account of these scopes, and a token for it. */
  signIn(scopes?: Iterable<Scope>): Promise<{ token: string; owner: string; key: KeyPair }>;
  /** Sends a request from an address; by default from one of the documentation range. */
  ask(path: string, init?: RequestInit & { from?: string }): Promise<Response>;
  /** The audit log, oldest first. */
  audited(): Promise<AuditRecord[]>;
  /** Starts the shutdown of the server. */
  leave(): void;
  /** Another process of the same server. */
  twin(): Pick<TestGateway, "ask">;
}

const EVERY: Required<GatewaySettings>["rates"] = { address: 0, owner: 0, signIn: 0, failure: 0 };

export async function openTestGateway(options: TestGatewayOptions = {}): Promise<TestGateway> {
  const { publicUrl = "https://vm.example.org", settings, parts, ...bounds } = options;
  const dir = await mkdtemp(join(tmpdir(), "formation-gateway-"));
  const clock = { at: Date.now(), now: () => clock.at };
  const store = await openSqliteStore({ path: join(dir, "store.db"), clock });
  const queue = await openEmbeddedQueue({ path: join(dir, "queue.db") });
  const artifacts = await openDirectoryArtifacts({ path: join(dir, "artifacts") });
  const logged: TestGateway["logged"] = [];
  const logger: GatewayDeps["logger"] = {
    log: (level, message, fields = {}) => logged.push({ level, message, fields }),
  };
  const { documents, counters } = store;
  const authority = createAuthority({
    documents,
    issuer: publicUrl,
    audience: `${publicUrl}/mcp`,
    masterKey: new Uint8Array(32).fill(7),
    clock,
  });
  const audit = openAudit({ store: store.audit, clock, logger });
  const quotas = createQuotas({
    documents,
    defaults: NO_QUOTA,
    clock,
  });
  const control = createControl({ store, queue, artifacts, clock, audit, quotas, ...bounds });
  const closing = new AbortController();
  const gatewayOf = () =>
    createHttpGateway({
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
      publicUrl,
      version: "1.2.3",
      clock,
      logger,
      random: (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
      closing: closing.signal,
      ...parts,
      settings: { rates: EVERY, ...settings },
    });
  const gateway = gatewayOf();
  const asking =
    (of: ReturnType<typeof gatewayOf>): TestGateway["ask"] =>
    (path, { from = "203.0.113.7", ...init } = {}) => {
      const headers = new Headers(init.headers);
      if (!headers.has("host")) headers.set("host", new URL(publicUrl).host);
      return of.fetch(new Request(`${publicUrl}${path}`, { ...init, headers }), { address: from });
    };
  return {
    authority,
    store,
    clock,
    logged,
    async signIn(scopes = allScopes()) {
      const key = generateKey("ed25519");
      await authority.admit({ publicKey: key.publicJwk() }, new Set(scopes));
      const { message } = await authority.challenge({ address: keyId(key) });
      const { access_token: token, owner } = await authority.signIn({
        ...signMessage(key, message),
        message,
      });
      return { token, owner, key };
    },
    ask: asking(gateway),
    twin: () => ({ ask: asking(gatewayOf()) }),
    async audited() {
      const lines: AuditRecord[] = [];
      for (const { chain, first_seq } of await store.audit.chains())
        lines.push(...(await store.audit.read(chain, first_seq, 10_000)));
      return lines;
    },
    leave: () => closing.abort(),
    async [Symbol.asyncDispose]() {
      await gateway.close();
      await audit.close();
      await queue.close();
      await artifacts.close();
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export const withToken = (token: string, more: Record<string, string> = {}) => ({
  headers: { authorization: `Bearer ${token}`, ...more },
});

/** One JSON-RPC request as a client of the 2025 revisions sends it. */
export function rpc(token: string | null, method: string, params: Json = {}): RequestInit {
  return {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2025-11-25",
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  };
}

/** The message of a response: its JSON, or the one message of its event stream. */
export async function message(response: Response): Promise<Json> {
  const text = await response.text();
  const data = text.split("\n").find((line) => line.startsWith("data:"));
  return JSON.parse(data ? data.slice(5) : text);
}
