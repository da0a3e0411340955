// A client of one server for one user: it puts the parts together and has the small methods itself.

import type { ToolArguments, ToolName, ToolOutput } from "@formation-mcp/tools";
import { createTokens, type Tokens } from "./api-tokens.ts";
import { createAuthorizedWire, fixedToken, type RequestOptions } from "./authorized-wire.ts";
import { type CallOptions, callTool } from "./call.ts";
import { isObject } from "./errors.ts";
import { type LoginCode, readLoginCode } from "./login-codes.ts";
import { originOf } from "./server-url.ts";
import { createSessions, type SessionStorage } from "./session.ts";
import { scopesOf, signIn } from "./sign-in.ts";
import { keySource, type Signer, signerFor } from "./signer.ts";
import { type Content, type UploadedContext, upload } from "./upload.ts";
import { type LogLine, type LogOptions, type OperationUpdate, readLogs, watchOperation } from "./watch.ts";
import { createWire, type Fetch } from "./wire.ts";

export interface ClientOptions {
  /** The server: `https://vm.example.org`. */
  url: string;
  /** The key that signs in, or a function that fetches it when it is needed first. */
  key?: Signer | (() => Promise<Signer>);
  /** In place of a key: an API token (`fmt_…`) or an access token. It is never renewed. */
  token?: string;
  /** Scopes to ask for at sign-in. Default: all that the account has. */
  scopes?: readonly string[];
  /** Where the session is kept beyond this client's life. Default: nowhere. */
  storage?: SessionStorage;
  /** Whether plain HTTP to other machines is allowed. Default: false. */
  allowHttp?: boolean;
  /** How long a request may take that does not wait for an operation, in milliseconds. Default: 30 000. */
  timeoutMs?: number;
  fetch?: Fetch;
  now?: () => number;
  random?: () => number;
}

export interface Identity {
  owner: string;
  scopes: string[];
  /** The token's limits in addition to its scopes. */
  bounds: Record<string, unknown> | null;
  token_id: string;
  /** Milliseconds since the epoch. */
  expires_at: number;
}

/** A tool as the server lists it for this user. */
export interface ListedTool {
  name: string;
  title: string;
  description: string;
  /** The scope that a token needs. */
  scope: string;
}

/** Every method throws FormationError only. `unavailable` names the URL where nothing answers. */
export interface Client {
  readonly url: string;
  /**
   * Calls a tool. A call that starts an operation carries an idempotency key, so it is safe to lose the
   * connection.
   * @throws FormationError as the server sent it, and the errors of signing in
   */
  call<N extends ToolName>(tool: N, input: ToolArguments<N>, options?: CallOptions): Promise<ToolOutput<N>>;
  /** The tools that this user may call. */
  tools(options?: RequestOptions): Promise<ListedTool[]>;
  /**
   * The states of an operation from now to its end. The last one has `done: true`. Takes op_, bld_, dep_ and
   * vm_ ids.
   */
  watch(id: string, options?: RequestOptions): AsyncGenerator<OperationUpdate, void, void>;
  /**
   * The lines that an instance (id or name) or a build (`bld_…`) prints, from the last lines on, until it
   * ends.
   */
  logs(instance: string, options?: LogOptions): AsyncGenerator<LogLine, void, void>;
  /**
   * Uploads a tar or tar.gz as a build's context. Bytes and blobs are sent again if the connection breaks,
   * streams not.
   */
  upload(content: Content, options?: RequestOptions): Promise<UploadedContext>;
  whoami(options?: RequestOptions): Promise<Identity>;
  readonly tokens: Tokens;
  /** Reads the login code of a browser. The result can be approved, which signs it. */
  loginCode(code: string, options?: RequestOptions): Promise<LoginCode>;
  /** Signs in with the key now, even if there is a session. Without this call, it happens when needed. */
  signIn(): Promise<void>;
  /**
   * Makes the key the admin of a fresh server, with the token that the server printed at its start, and signs
   * in.
   */
  bootstrap(token: string): Promise<void>;
  /** Ends the session here and on the server. */
  signOut(): Promise<void>;
}

/** @throws FormationError `invalid` for a wrong URL, or plain HTTP to another machine. */
export function createClient(options: ClientOptions): Client {
  const { token, now = Date.now } = options;
  const url = originOf(options.url, options.allowHttp ?? false);
  const wire = createWire({
    url,
    fetch: options.fetch ?? ((input, init) => fetch(input, init)),
    timeoutMs: options.timeoutMs ?? 30_000,
    random: options.random ?? Math.random,
  });
  const { scopes, storage } = options;
  const key = keySource(options.key);
  const sessions = createSessions({ wire, key, scopes, storage, now });
  const authorized = createAuthorizedWire(wire, token === undefined ? sessions : fixedToken(token));
  const whoami = async ({ signal }: RequestOptions = {}) =>
    identityOf(await authorized.send({ method: "GET", path: "/api/auth/whoami", repeatable: true, signal }));

  return {
    url,
    call: (tool, input, more = {}) => callTool(authorized, tool, input, more) as Promise<never>,
    watch: (id, more = {}) => watchOperation(authorized, id, more),
    logs: (instance, more = {}) => readLogs(authorized, instance, more),
    whoami,
    tokens: createTokens(authorized),
    loginCode: (code, more = {}) => readLoginCode(wire, key, code, more, now),
    async tools({ signal } = {}) {
      const response = await authorized.send({ method: "GET", path: "/api/tools", repeatable: true, signal });
      const list = isObject(response) && Array.isArray(response["tools"]) ? response["tools"] : [];
      // Aliases are listed for old clients only.
      const tools = list.filter(isObject).filter((tool) => tool["alias_of"] === undefined);
      return tools.map(({ name, title, description, scope }) => ({
        name: String(name),
        title: String(title ?? name),
        description: String(description ?? ""),
        scope: String(scope ?? ""),
      }));
    },
    upload: (content, { signal } = {}) => upload(authorized, content, signal),
    async signIn() {
      const more = scopes ? { scopes } : {};
      await sessions.set(await signIn(wire, await signerFor(url, key), now, "/api/auth/login", more));
    },
    async bootstrap(bootstrap_token) {
      const signer = await signerFor(url, key);
      await sessions.set(await signIn(wire, signer, now, "/api/auth/bootstrap", { bootstrap_token }));
    },
    async signOut() {
      const session = await sessions.current();
      await sessions.set(null);
      if (!session) return;
      await wire.send({
        method: "POST",
        path: "/api/auth/revoke",
        json: { token: session.refresh_token ?? session.access_token },
        repeatable: true,
      });
    },
  };
}

function identityOf(response: unknown): Identity {
  const data = isObject(response) ? response : {};
  const { bounds, expires_at, token_id } = data;
  return {
    owner: String(data["user_id"] ?? data["owner"] ?? ""),
    scopes: scopesOf(data["permissions"] ?? data["scopes"]),
    bounds: isObject(bounds) ? bounds : null,
    token_id: String(token_id ?? ""),
    expires_at: Number(expires_at) * 1000,
  };
}
