// One side of the comparison of HTTP servers, in a forked process: the SDK's handler with more and more parts
// of the product, to measure the cost of each part.

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { allScopes } from "@formation-mcp/auth";
import { createAuthority } from "@formation-mcp/auth/authority";
import { generateKey, keyId, signMessage } from "@formation-mcp/auth/keys";
import { NO_QUOTA, silentLogger, systemClock } from "@formation-mcp/contract";
import { type Control, createControl, createNodes, createQuotas, openAudit } from "@formation-mcp/control";
import { createHttpGateway } from "@formation-mcp/gateway";
import { createMcpServerFactory } from "@formation-mcp/mcp";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { getRequestListener } from "@hono/node-server";
import { createMcpHandler } from "@modelcontextprotocol/server";

/** `bare`: only the SDK. Each further side adds one part to the one before it. */
export const SIDES = ["bare", "gate", "store", "audit"] as const;
export type Side = (typeof SIDES)[number];

export interface Order {
  side: Side;
  dir: string;
  instances: number;
}

/** Where the side listens, and the token for requests. */
export interface Ready {
  port: number;
  token: string;
  owner: string;
}

type Fetch = (request: Request, address: string) => Promise<Response>;

async function serve({ side, dir, instances }: Order): Promise<Ready> {
  const store = await openSqliteStore({ path: join(dir, "formation.db") });
  const queue = await openEmbeddedQueue({ path: join(dir, "queue.db") });
  const artifacts = await openDirectoryArtifacts({ path: join(dir, "artifacts") });
  const common = { clock: systemClock, random: randomBytes, logger: silentLogger };
  const { documents, counters } = store;

  let answer: Fetch = async () => new Response(null, { status: 503 });
  const server = createServer(
    getRequestListener((request, { incoming }) => answer(request, incoming.socket.remoteAddress ?? "")),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const publicUrl = `http://127.0.0.1:${port}`;

  const authority = createAuthority({
    ...common,
    documents,
    issuer: publicUrl,
    audience: `${publicUrl}/mcp`,
    masterKey: randomBytes(32),
  });
  const key = generateKey("secp256k1", randomBytes);
  const { message } = await authority.challenge({ address: keyId(key) });
  const bootstrap = (await authority.bootstrapToken()) ?? "";
  const { owner } = await authority.bootstrap(bootstrap, signMessage(key, message));
  const again = await authority.challenge({ address: keyId(key) });
  const tokens = await authority.signIn(signMessage(key, again.message), { scopes: allScopes() });

  const kept = openAudit({ ...common, store: store.audit });
  const audit = side === "audit" ? kept : { record: async () => {}, close: async () => {} };
  const quotas = createQuotas({ documents, defaults: NO_QUOTA, clock: systemClock });
  const real = createControl({ ...common, store, queue, artifacts, quotas, audit });
  const principal = { owner, scopes: allScopes(), local: false };
  for (let i = 0; i < instances; i++) {
    // No worker runs here, so the list shows them unchanged.
    await real.call(principal, "vm_create", { image: "busybox", instance_name: `web-${i}`, wait_seconds: 0 });
  }
  const result = await real.call(principal, "vm_list", {});
  const constant: Control = { offers: () => true, call: async () => result };
  const control = side === "store" || side === "audit" ? real : constant;

  if (side === "bare") {
    const factory = createMcpServerFactory({
      control: constant,
      principalFor: () => principal,
      version: "1.0.0",
    });
    const handler = createMcpHandler(factory);
    answer = (request) => handler.fetch(request);
  } else {
    const gateway = createHttpGateway({
      ...common,
      control,
      authority,
      audit,
      auditLog: store.audit,
      quotas,
      nodes: createNodes({ store, queue, clock: systemClock }),
      usage: (who) => store.usage(who),
      documents,
      counters,
      artifacts,
      queue,
      publicUrl,
      version: "1.0.0",
      settings: { rates: PLENTY },
    });
    answer = (request, address) => gateway.fetch(request, { address });
  }
  return { port, token: tokens.access_token, owner };
}

/** The rate is counted as usual, but its limit is never reached. */
const PLENTY = { address: 100_000_000, owner: 100_000_000, signIn: 100_000, failure: 100_000 };

process.once("message", (order: Order) => {
  serve(order).then(
    (ready) => process.send?.(ready),
    (error: Error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exit(1);
    },
  );
});
