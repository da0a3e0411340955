// One server, one user: every request of a client goes out from here with a good token, and a token that the server takes
// no more is renewed once before anybody hears of it.

import type { ToolArguments, ToolName, ToolOutput } from "@formation-mcp/tools";
import { type Tokens, tokensOf } from "./api-tokens.ts";
import { askerOf, fixedToken, type Waiting } from "./authorized-wire.ts";
import { type CallOptions, callTool } from "./call.ts";
import { isObject } from "./errors.ts";
import { type LoginCode, loginCode } from "./login-codes.ts";
import { createSessions, type SessionStorage, scopesOf, signIn } from "./session.ts";
import { keySource, type Signer, signerFor } from "./signer.ts";
import { type Content, type UploadedContext, upload } from "./upload.ts";
import { type LogLine, type LogOptions, readLogs, type Watched, watchOperation } from "./watch.ts";
import { createWire, type Fetch, originOf } from "./wire.ts";

export interface ClientOptions {
  /** The server: `https://vm.example.org`. */
  url: string;
  /** Who signs in, or how to get at it when that is needed first. */
  key?: Signer | (() => Promise<Signer>);
  /** Or a token that is there already: an API token (`fmt_…`), or an access token. */
  token?: string;
  /** Scopes to ask for at sign-in; all that the account has by default. */
  scopes?: readonly string[];
  /** Where the session outlives this client; it is forgotten by default. */
  storage?: SessionStorage;
  /** Whether plain HTTP may be used beyond this machine. Default: false. */
  allowHttp?: boolean;
  /** How long a request may take that does not wait for an operation, in milliseconds. Default: 30 s. */
  timeoutMs?: number;
  fetch?: Fetch;
  now?: () => number;
  random?: () => number;
}

export interface Identity {
  owner: string;
  scopes: string[];
  /** What the token is bound to beside its scopes. */
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
  /** What a token needs for it. */
  scope: string;
}

/** Every method throws FormationError alone; `unavailable` names the URL where nothing answers. */
export interface Client {
  readonly url: string;
  /** Calls a tool. It is safe to lose the connection: what starts something is sent with an idempotency key. */
  call<N extends ToolName>(tool: N, input: ToolArguments<N>, options?: CallOptions): Promise<ToolOutput<N>>;
  /** The tools that this user may call. */
  tools(options?: Waiting): Promise<ListedTool[]>;
  /** What an operation does, from now to its end: the last one has `done: true`. Takes op_, bld_, dep_ and vm_ ids. */
  watch(id: string, options?: Waiting): AsyncGenerator<Watched, void, void>;
  /** What an instance prints, or a build (bld_…), from the last lines on: until it ends or the signal says so. */
  logs(instance: string, options?: LogOptions): AsyncGenerator<LogLine, void, void>;
  /** Stores a tar or tar.gz as a build's context. A stream is sent once, bytes and blobs again if the connection breaks. */
  upload(content: Content, options?: Waiting): Promise<UploadedContext>;
  whoami(options?: Waiting): Promise<Identity>;
  readonly tokens: Tokens;
  /** Looks at a login code of a browser, and signs it. */
  loginCode(code: string, options?: Waiting): Promise<LoginCode>;
  /** Signs in with the key now, whatever session there is. It happens by itself when needed. */
  signIn(): Promise<void>;
  /** Makes the key the admin of a fresh server, with the token that it printed at its first start; signs in with it. */
  bootstrap(token: string): Promise<void>;
  /** Ends the session here and on the server. */
  signOut(): Promise<void>;
}

/** @throws FormationError `invalid` for a URL that is none, or plain HTTP beyond this machine. */
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
  const asker = askerOf(wire, token === undefined ? sessions : fixedToken(token));
  const whoami = async ({ signal }: Waiting = {}) =>
    identityOf(await asker.send({ method: "GET", path: "/api/auth/whoami", repeatable: true, signal }));

  return {
    url,
    call: (tool, input, more = {}) => callTool(asker, tool, input, more) as Promise<never>,
    watch: (id, more = {}) => watchOperation(asker, id, more),
    logs: (instance, more = {}) => readLogs(asker, instance, more),
    whoami,
    tokens: tokensOf(asker),
    loginCode: (code, more = {}) => loginCode(wire, key, code, more, now),
    async tools({ signal } = {}) {
      const said = await asker.send({ method: "GET", path: "/api/tools", repeatable: true, signal });
      const list = isObject(said) && Array.isArray(said["tools"]) ? said["tools"] : [];
      // The old names stand there for old clients.
      const ours = list.filter(isObject).filter((tool) => tool["alias_of"] === undefined);
      return ours.map(({ name, title, description, scope }) => ({
        name: String(name),
        title: String(title ?? name),
        description: String(description ?? ""),
        scope: String(scope ?? ""),
      }));
    },
    upload: (content, { signal } = {}) => upload(asker, content, signal),
    async signIn() {
      const more = scopes ? { scopes } : {};
      await sessions.keep(await signIn(wire, await signerFor(url, key), now, "/api/auth/login", more));
    },
    async bootstrap(bootstrap_token) {
      const signer = await signerFor(url, key);
      await sessions.keep(await signIn(wire, signer, now, "/api/auth/bootstrap", { bootstrap_token }));
    },
    async signOut() {
      const session = await sessions.current();
      await sessions.keep(null);
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

function identityOf(said: unknown): Identity {
  const data = isObject(said) ? said : {};
  const { bounds, expires_at, token_id } = data;
  return {
    owner: String(data["user_id"] ?? data["owner"] ?? ""),
    scopes: scopesOf(data["permissions"] ?? data["scopes"]),
    bounds: isObject(bounds) ? bounds : null,
    token_id: String(token_id ?? ""),
    expires_at: Number(expires_at) * 1000,
  };
}
