// A minimal browser: it keeps cookies by path, follows redirects step by step, and submits the forms of a
// page.

import { createHash, randomBytes } from "node:crypto";
import { type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";

interface Cookie {
  name: string;
  value: string;
  path: string;
}

export class Browser {
  readonly cookies: Cookie[] = [];

  async fetch(url: string | URL, init: RequestInit = {}): Promise<Response> {
    const { pathname, origin } = new URL(url);
    const cookie = this.cookies
      .filter(({ path }) => pathname === path || pathname.startsWith(path.endsWith("/") ? path : `${path}/`))
      .map(({ name, value }) => `${name}=${value}`)
      .join("; ");
    const headers = new Headers(init.headers);
    if (cookie !== "") headers.set("cookie", cookie);
    if (init.method === "POST" && !headers.has("origin")) headers.set("origin", origin);
    if (headers.get("origin") === "") headers.delete("origin");
    const answer = await fetch(url, { ...init, headers, redirect: "manual" });
    for (const line of answer.headers.getSetCookie()) this.#keep(line);
    return answer;
  }

  /**
   * Follows redirects as long as they stay at this origin; returns the last answer or where it leads away to.
   */
  async follow(
    url: string | URL,
    init: RequestInit = {},
  ): Promise<{ answer: Response; url: URL; away: URL | null }> {
    let at = new URL(url);
    let answer = await this.fetch(at, init);
    for (let hops = 0; hops < 10 && answer.status >= 300 && answer.status < 400; hops++) {
      const next = new URL(answer.headers.get("location") ?? "", at);
      if (next.origin !== at.origin) return { answer, url: at, away: next };
      at = next;
      answer = await this.fetch(at);
    }
    return { answer, url: at, away: null };
  }

  #keep(line: string): void {
    const [pair = "", ...attributes] = line.split(/;\s*/);
    const name = pair.slice(0, pair.indexOf("="));
    const value = pair.slice(pair.indexOf("=") + 1);
    const path = attributes.find((each) => /^path=/i.test(each))?.slice(5) ?? "/";
    const gone = attributes.some((each) => /^expires=Thu, 01 Jan 1970/i.test(each));
    const at = this.cookies.findIndex((each) => each.name === name && each.path === path);
    if (at >= 0) this.cookies.splice(at, 1);
    if (!gone && value !== "") this.cookies.push({ name, value, path });
  }
}

export function form(fields: Record<string, string>): RequestInit {
  return {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(fields).toString(),
  };
}

export function json(body: unknown, headers: Record<string, string> = {}): RequestInit {
  return {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  };
}

/** A client's half of PKCE (RFC 7636). */
export function pkce(): { verifier: string; challenge: string } {
  const verifier = randomBytes(32).toString("base64url");
  return { verifier, challenge: createHash("sha256").update(verifier).digest("base64url") };
}

export const REDIRECT = "https://app.example.com/callback";

/** Registers a client (RFC 7591) and returns its id. */
export async function register(server: string, metadata: Record<string, unknown> = {}): Promise<string> {
  const answer = await fetch(
    `${server}/oauth/register`,
    json({ client_name: "Test app", redirect_uris: [REDIRECT], ...metadata }),
  );
  const body = (await answer.json()) as { client_id: string };
  if (answer.status !== 201) throw new Error(`registration: ${answer.status} ${JSON.stringify(body)}`);
  return body.client_id;
}

/** The address at which a client asks for access. */
export function authorizeUrl(
  server: string,
  clientId: string,
  more: Record<string, string | undefined> = {},
): URL {
  const url = new URL("/oauth/authorize", server);
  const params = {
    client_id: clientId,
    response_type: "code",
    redirect_uri: REDIRECT,
    scope: "vm:read",
    state: "state-1",
    code_challenge: pkce().challenge,
    code_challenge_method: "S256",
    resource: `${server}/mcp`,
    ...more,
  };
  for (const [name, value] of Object.entries(params))
    if (value !== undefined) url.searchParams.set(name, value);
  return url;
}

/** The token of a page's forms. */
export async function formToken(page: Response): Promise<string> {
  return /name="csrf" value="([^"]+)"/.exec(await page.text())?.[1] ?? "";
}

/** Signs in with a key on the login page and returns what comes after it. */
export async function signInAt(browser: Browser, login: { answer: Response; url: URL }, key: KeyPair) {
  const csrf = await formToken(login.answer);
  const asked = await browser.fetch(
    `${login.url}/challenge`,
    json({ address: keyId(key) }, { "x-form-token": csrf }),
  );
  const { message } = (await asked.json()) as { message: string };
  const { signature } = signMessage(key, message);
  return browser.follow(login.url, form({ csrf, message, signature }));
}

/** Everything up to the code, with a wallet key that says yes. */
export async function authorize(browser: Browser, url: URL, key: KeyPair): Promise<URL> {
  let step = await browser.follow(url);
  if (step.url.pathname.startsWith("/auth/login/")) step = await signInAt(browser, step, key);
  if (step.url.pathname.startsWith("/auth/consent/")) {
    const csrf = await formToken(step.answer);
    step = await browser.follow(step.url, form({ csrf, decision: "allow" }));
  }
  if (!step.away)
    throw new Error(
      `no redirect: ${step.answer.status} at ${step.url.pathname}: ${await step.answer.text()}`,
    );
  return step.away;
}

export interface Tokens {
  access_token: string;
  refresh_token?: string;
  expires_in: number;
  token_type: string;
  scope: string;
}

/** Asks the token endpoint. */
export async function tokenRequest(server: string, fields: Record<string, string>) {
  const answer = await fetch(`${server}/oauth/token`, form(fields));
  const body = (await answer.json()) as Tokens & { error?: string; error_description?: string };
  return { status: answer.status, body };
}

export function refreshRequest(
  server: string,
  clientId: string,
  token: string | undefined,
  more: Record<string, string> = {},
) {
  const fields = { grant_type: "refresh_token", client_id: clientId, refresh_token: token ?? "", ...more };
  return tokenRequest(server, fields);
}

/** The whole way: a client, a sign-in, consent, a code, tokens. */
export async function obtainTokens(
  server: string,
  key: KeyPair,
  options: { browser?: Browser; clientId?: string; scope?: string } = {},
): Promise<{ tokens: Tokens; clientId: string; browser: Browser }> {
  const { browser = new Browser(), scope = "vm:read" } = options;
  const clientId = options.clientId ?? (await register(server));
  const { verifier, challenge } = pkce();
  const away = await authorize(
    browser,
    authorizeUrl(server, clientId, { scope, code_challenge: challenge }),
    key,
  );
  const { status, body } = await tokenRequest(server, {
    grant_type: "authorization_code",
    client_id: clientId,
    code: away.searchParams.get("code") ?? "",
    redirect_uri: REDIRECT,
    code_verifier: verifier,
    resource: `${server}/mcp`,
  });
  if (status !== 200) throw new Error(`token endpoint: ${status} ${JSON.stringify(body)}`);
  return { tokens: body, clientId, browser };
}

/** Asks for access and says how that ended: a page, an error page, or an error for the client. */
export async function asked(url: URL): Promise<{ status: number; location: URL | null; body: string }> {
  const answer = await fetch(url, { redirect: "manual", headers: { accept: "text/html" } });
  const location = answer.headers.get("location");
  return {
    status: answer.status,
    location: location === null ? null : new URL(location, url),
    body: await answer.text(),
  };
}
