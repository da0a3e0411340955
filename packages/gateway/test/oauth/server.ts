// An authorization server over a real database on a real socket, and keys that sign in to it.

import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allScopes, type Scope } from "@formation-mcp/auth";
import { type Authority, createAuthority } from "@formation-mcp/auth/authority";
import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { type Clock, systemClock } from "@formation-mcp/contract";
import { createOAuthServer, type OAuthServerDeps } from "@formation-mcp/gateway/oauth";
import type { Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";

export interface OAuthServer extends AsyncDisposable {
  url: string;
  audience: string;
  authority: Authority;
  store: Store;
  /** Lines of the log and of the audit log. */
  logged: string[];
  audited: { action: string; outcome: string; owner: string | null; target: string | null }[];
  /** A new key with an account of these scopes. */
  admit(kind: KeyPair["kind"], scopes?: Iterable<Scope>): Promise<KeyPair>;
  /** Another process of the same server: its own objects over the same database, at a port of its own. */
  twin(): Promise<{ url: string; close(): Promise<void> }>;
  /** This process ends and another begins, at the same address. */
  restart(): Promise<void>;
}

export async function openOAuthServer(
  options: Partial<OAuthServerDeps> & {
    clock?: Clock;
    issuer?: string;
    wrap?: (authority: Authority) => Authority;
  } = {},
): Promise<OAuthServer> {
  const dir = await mkdtemp(join(tmpdir(), "formation-oauth-"));
  const store = await openSqliteStore({ path: join(dir, "store.db") });
  const clock = options.clock ?? systemClock;
  const logged: string[] = [];
  const audited: OAuthServer["audited"] = [];
  const http = createServer();
  await listen(http, 0);
  const { port } = http.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const { issuer = url, wrap = (authority: Authority) => authority, ...deps } = options;
  const audience = `${issuer}/mcp`;
  const masterKey = crypto.getRandomValues(new Uint8Array(32));
  const secret = crypto.getRandomValues(new Uint8Array(32));

  const assemble = async () => {
    const parts = { documents: store.documents, issuer, audience, masterKey, clock };
    const authority = createAuthority(parts);
    const oauth = createOAuthServer({
      authority: wrap(authority),
      documents: store.documents,
      counters: store.counters,
      audit: {
        record: async ({ action, outcome, owner, target }) => {
          audited.push({ action, outcome, owner, target });
        },
        close: async () => undefined,
      },
      clock,
      logger: {
        log: (level, message, fields) => logged.push(`${level} ${message} ${JSON.stringify(fields)}`),
      },
      random: (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
      secret,
      rates: { signIn: 0, address: 0, failure: 0 },
      ...deps,
    });
    return { authority, oauth };
  };
  let made = await assemble();
  const serve = (server: Server, which: () => typeof made) => {
    server.on("request", (request, response) => {
      which()
        .oauth.handle(request, response)
        .then((handled) => {
          // The metadata of the protected resource, which the gateway serves (RFC 9728).
          if (!handled && request.url?.startsWith("/.well-known/oauth-protected-resource")) {
            const resource = {
              resource: audience,
              authorization_servers: [url],
              scopes_supported: ["vm:read"],
            };
            response.setHeader("content-type", "application/json").end(JSON.stringify(resource));
          } else if (!handled) response.writeHead(418).end();
        })
        .catch((error: unknown) => logged.push(`handle rejected: ${String(error)}`));
    });
  };
  serve(http, () => made);

  return {
    url,
    audience,
    get authority() {
      return made.authority;
    },
    store,
    logged,
    audited,
    async admit(kind, scopes = allScopes()) {
      const key = generateKey(kind);
      const given = {
        [kind === "ed25519" ? "publicKey" : "id"]: kind === "ed25519" ? key.publicJwk() : keyId(key),
      };
      await made.authority.admit(given, new Set(scopes));
      return key;
    },
    async twin() {
      const other = await assemble();
      const server = createServer();
      serve(server, () => other);
      await listen(server, 0);
      return {
        url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        close: () => close(server),
      };
    },
    async restart() {
      made = await assemble();
    },
    async [Symbol.asyncDispose]() {
      await close(http);
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export function listen(server: Server, port: number): Promise<void> {
  return new Promise((done, fail) => {
    server.once("error", fail);
    server.listen(port, "127.0.0.1", () => done());
  });
}

export function close(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((done) => server.close(() => done()));
}

/** A key's own word that it joins an account: a challenge, signed by it. */
export async function proofOf(authority: Authority, key: KeyPair) {
  const { message } = await authority.challenge({ address: keyId(key) });
  return signMessage(key, message);
}
