// A small server on a real socket that keeps the REST contract's shapes, checks real signatures, and can be
// told to fail. What it did is on its records, for the tests to read. The real server's tests with this
// client are apps/stdio's.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import {
  formatSignInMessage,
  type PublicJwk,
  parseSignInMessage,
  verifyMessage,
} from "@formation-mcp/auth/keys";
import { FormationError } from "@formation-mcp/contract";

interface Seen {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: Buffer;
  json: Record<string, unknown>;
}

type Handle = (seen: Seen, response: ServerResponse) => unknown;

export interface TestServer {
  url: string;
  seen: Seen[];
  /** Requests of a path that came so far. */
  count(path: string): number;
  /**
   * What a path answers: data for the envelope, or a handler that may answer by itself or throw a
   * FormationError.
   */
  on(path: string, handle: Handle): void;
  /** What is done, once, with the next request of a path before it gets to its handler. */
  next(path: string, fault: (response: ServerResponse, seen: Seen) => void): void;
  /** Makes every access token of now void. */
  expireTokens(): void;
  tokenSeconds: number;
  /** What challenges say instead of this server's own address. */
  domain: string | null;
  close(): Promise<void>;
}

const STATUS: Record<string, number> = {
  invalid: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  cancelled: 409,
  limit: 429,
  unavailable: 503,
  internal: 500,
};

export async function testServer(): Promise<TestServer> {
  const handlers = new Map<string, Handle>();
  const faults = new Map<string, ((response: ServerResponse, seen: Seen) => void)[]>();
  const challenges = new Set<string>();
  const access = new Set<string>();
  const refresh = new Map<string, "good" | "used">();
  let made = 0;

  const http = createServer((request, response) => {
    void take(request, response);
  });
  await new Promise<void>((resolve) => {
    http.listen(0, "127.0.0.1", resolve);
  });
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;

  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on("error", () => undefined);
    const path = new URL(request.url ?? "/", url).pathname;
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    const isJson = request.headers["content-type"] === "application/json";
    const one: Seen = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers,
      body,
      json: isJson ? JSON.parse(body.toString()) : {},
    };
    server.seen.push(one);
    const fault = faults.get(path)?.shift();
    if (fault) return fault(response, one);
    try {
      const open = path.startsWith("/api/auth/") && path !== "/api/auth/whoami";
      const bearer = request.headers.authorization?.replace("Bearer ", "") ?? "";
      if (!open && !path.startsWith("/auth/") && !access.has(bearer) && !bearer.startsWith("fmt_"))
        throw new FormationError("unauthenticated", "This needs a token.", { remedy: "Sign in." });
      const handle = handlers.get(path);
      if (!handle) throw new FormationError("not_found", "There is nothing at this path.");
      const data = await handle(one, response);
      if (!response.headersSent && !response.destroyed)
        reply(response, 200, { status: "success", data, message: null });
    } catch (thrown) {
      const error = FormationError.from(thrown);
      const { code, message } = error;
      reply(response, STATUS[code] ?? 500, { status: "error", data: null, message, error: error.toRecord() });
    }
  }

  const pair = () => {
    const token = `access-${++made}`;
    const renewal = `fmr_${made}`;
    access.add(token);
    refresh.set(renewal, "good");
    return {
      token,
      user_id: "0xowner",
      expires_at: Math.floor(Date.now() / 1000) + server.tokenSeconds,
      permissions: ["vm:read", "pack:write"],
      token_type: "Bearer",
      expires_in: server.tokenSeconds,
      scope: "vm:read pack:write",
      refresh_token: renewal,
    };
  };
  const redeem = ({ json }: Seen) => {
    const { address, signed_message: message, signature, public_key } = json as Record<string, string>;
    const good =
      challenges.delete(String(message)) &&
      parseSignInMessage(String(message)).address === address &&
      verifyMessage(
        String(address),
        (public_key ?? null) as PublicJwk | null,
        String(message),
        String(signature),
      );
    if (!good) throw new FormationError("unauthenticated", "The signature is not the challenge's key's.");
    return pair();
  };

  const server: TestServer = {
    url,
    seen: [],
    count: (path) => server.seen.filter((one) => new URL(one.path, url).pathname === path).length,
    on: (path, handle) => void handlers.set(path, handle),
    next: (path, fault) => void faults.set(path, [...(faults.get(path) ?? []), fault]),
    expireTokens: () => access.clear(),
    tokenSeconds: 900,
    domain: null,
    async close() {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };

  server.on("/api/auth/challenge", ({ path }) => {
    const address = new URL(path, url).searchParams.get("address") ?? "";
    const issuer = server.domain ?? url;
    const message = formatSignInMessage({
      kind: address.startsWith("0x") ? "secp256k1" : "ed25519",
      domain: new URL(issuer).host,
      address,
      uri: issuer,
      chainId: "1",
      nonce: `nonce${String(++made).padStart(8, "0")}`,
      issuedAt: new Date().toISOString(),
      expirationTime: new Date(Date.now() + 60_000).toISOString(),
    });
    challenges.add(message);
    return { address, message, nonce: "", expires_at: 0 };
  });
  server.on("/api/auth/login", redeem);
  server.on("/api/auth/bootstrap", (seen) => {
    if (seen.json["bootstrap_token"] !== "once")
      throw new FormationError("unauthenticated", "No such token.");
    return redeem(seen);
  });
  server.on("/api/auth/refresh", ({ json }) => {
    const token = String(json["refresh_token"]);
    if (refresh.get(token) !== "good") {
      refresh.clear(); // used twice: the whole family falls
      throw new FormationError("unauthenticated", "The refresh token is void.");
    }
    refresh.set(token, "used");
    return pair();
  });
  server.on("/api/auth/revoke", () => ({ revoked: true }));
  server.on("/api/auth/whoami", () => ({
    user_id: "0xowner",
    permissions: ["vm:read", "pack:write"],
    bounds: null,
    token_id: "jti-1",
    client_id: "formation",
    expires_at: 4_000_000_000,
  }));
  return server;
}

export function reply(
  response: ServerResponse,
  status: number,
  json: unknown,
  headers: Record<string, string> = {},
) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(json));
}

/** Closes the connection without an answer, as a lost one looks. */
export function drop(response: ServerResponse): void {
  response.socket?.destroy();
}
