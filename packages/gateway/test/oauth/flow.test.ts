// The authorization code flow: how people and their apps get tokens, and keep them.

import { keyId } from "@formation-mcp/auth/keys";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  authorize,
  authorizeUrl,
  Browser,
  form,
  formToken,
  obtainTokens,
  pkce,
  REDIRECT,
  refreshRequest,
  register,
  signInAt,
  tokenRequest,
} from "./browser.ts";
import { type OAuthServer, openOAuthServer } from "./server.ts";

let server: OAuthServer;
beforeAll(async () => {
  server = await openOAuthServer();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const refresh = (clientId: string, token: string | undefined, more: Record<string, string> = {}) =>
  refreshRequest(server.url, clientId, token, more);

describe("the code flow", () => {
  it("gives a token that the authority takes: owner, scopes, audience, client and key are right", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key, { scope: "vm:read vm:write" });
    expect(tokens).toMatchObject({ token_type: "Bearer", expires_in: 900, scope: "vm:read vm:write" });
    const who = await server.authority.authenticate(tokens.access_token);
    expect(who.principal).toMatchObject({ owner: keyId(key), local: false });
    expect([...who.principal.scopes]).toEqual(["vm:read", "vm:write"]);
    expect(who).toMatchObject({ clientId, keyId: keyId(key) });
  });

  it("answers with state and iss (RFC 9207), and the issuer is the metadata's byte for byte", async () => {
    const key = await server.admit("secp256k1");
    const away = await authorize(new Browser(), authorizeUrl(server.url, await register(server.url)), key);
    const metadata = await (await fetch(`${server.url}/.well-known/oauth-authorization-server`)).json();
    expect(away.searchParams.get("state")).toBe("state-1");
    expect(away.searchParams.get("iss")).toBe(server.url);
    expect(metadata).toMatchObject({ issuer: server.url, code_challenge_methods_supported: ["S256"] });
  });

  it("asks for consent once per client and scopes, and again only for more", async () => {
    const key = await server.admit("secp256k1");
    const { browser, clientId } = await obtainTokens(server.url, key, { scope: "vm:read" });
    const again = await browser.follow(authorizeUrl(server.url, clientId, { scope: "vm:read" }));
    expect(again.away?.searchParams.get("code")).toBeTruthy();
    const more = await browser.follow(authorizeUrl(server.url, clientId, { scope: "vm:read pack:write" }));
    expect(more.url.pathname).toMatch(/^\/auth\/consent\//);
    expect(await more.answer.text()).toContain("Build and ship");
  });

  it("asks every time for an app on a computer, whose place another program could take", async () => {
    const key = await server.admit("secp256k1");
    const redirect = "http://127.0.0.1:7777/cb";
    const clientId = await register(server.url, { redirect_uris: [redirect] });
    const browser = new Browser();
    const url = authorizeUrl(server.url, clientId, { redirect_uri: "http://127.0.0.1:51123/cb" });
    expect((await authorize(browser, url, key)).host).toBe("127.0.0.1:51123");
    const again = await browser.follow(url);
    expect(again.url.pathname).toMatch(/^\/auth\/consent\//);
  });

  it("never gives more than the account has, and says what it withholds", async () => {
    const key = await server.admit("secp256k1", ["vm:read"]);
    const browser = new Browser();
    const clientId = await register(server.url);
    const url = authorizeUrl(server.url, clientId, { scope: "vm:read vm:write admin" });
    const consent = await signInAt(browser, await browser.follow(url), key);
    const page = await consent.answer.text();
    expect(page).toContain("vm:write, admin, which your account does not have");
    const { tokens } = await obtainTokens(server.url, key, {
      browser,
      clientId,
      scope: "vm:read vm:write admin",
    });
    expect(tokens.scope).toBe("vm:read");
  });

  it("offers only denial to an account that has nothing of what was asked", async () => {
    const key = await server.admit("secp256k1", ["vm:read"]);
    const browser = new Browser();
    const url = authorizeUrl(server.url, await register(server.url), { scope: "admin" });
    const consent = await signInAt(browser, await browser.follow(url), key);
    const page = await consent.answer.text();
    expect(page).not.toContain('value="allow"');
    const csrf = /name="csrf" value="([^"]+)"/.exec(page)?.[1] ?? "";
    const forced = await browser.follow(consent.url, form({ csrf, decision: "allow" }));
    expect(forced.away?.searchParams.get("error")).toBe("access_denied");
  });

  it("gives everything but admin to a client that asks for nothing in particular, or for what is not known", async () => {
    const key = await server.admit("secp256k1");
    for (const scope of [undefined, "openid profile offline_access"]) {
      const browser = new Browser();
      const url = authorizeUrl(server.url, await register(server.url), { scope });
      const consent = await signInAt(browser, await browser.follow(url), key);
      const page = await consent.answer.text();
      expect(page).toContain("Change your virtual machines");
      expect(page).not.toContain("Administer this server");
    }
  });

  it("tells the client that the person said no", async () => {
    const key = await server.admit("secp256k1");
    const browser = new Browser();
    const login = await browser.follow(authorizeUrl(server.url, await register(server.url)));
    const consent = await signInAt(browser, login, key);
    const csrf = await formToken(consent.answer);
    const { away } = await browser.follow(consent.url, form({ csrf, decision: "deny" }));
    expect(Object.fromEntries(away?.searchParams ?? [])).toMatchObject({
      error: "access_denied",
      state: "state-1",
      iss: server.url,
    });
  });

  it("goes back to the client from the login page without a key", async () => {
    const browser = new Browser();
    const login = await browser.follow(authorizeUrl(server.url, await register(server.url)));
    const csrf = await formToken(login.answer);
    const { away } = await browser.follow(login.url, form({ csrf, decision: "cancel" }));
    expect(away?.searchParams.get("error")).toBe("access_denied");
  });

  it("lets a person take another key on the consent page", async () => {
    const [one, other] = [await server.admit("secp256k1"), await server.admit("secp256k1")];
    const browser = new Browser();
    const clientId = await register(server.url);
    const { verifier, challenge } = pkce();
    const url = authorizeUrl(server.url, clientId, { code_challenge: challenge });
    const consent = await signInAt(browser, await browser.follow(url), one);
    const csrf = await formToken(consent.answer);
    const login = await browser.follow(consent.url, form({ csrf, decision: "switch" }));
    expect(login.url.pathname).toMatch(/^\/auth\/login\//);
    const second = await signInAt(browser, login, other);
    const allow = form({ csrf: await formToken(second.answer), decision: "allow" });
    const { away } = await browser.follow(second.url, allow);
    const { body } = await tokenRequest(server.url, {
      grant_type: "authorization_code",
      client_id: clientId,
      code: away?.searchParams.get("code") ?? "",
      redirect_uri: REDIRECT,
      code_verifier: verifier,
    });
    expect((await server.authority.authenticate(body.access_token)).principal.owner).toBe(keyId(other));
  });

  it("takes another key at prompt=login though somebody is signed in", async () => {
    const [one, other] = [await server.admit("secp256k1"), await server.admit("secp256k1")];
    const { browser, clientId } = await obtainTokens(server.url, one);
    const login = await browser.follow(authorizeUrl(server.url, clientId, { prompt: "login" }));
    expect(login.url.pathname).toMatch(/^\/auth\/login\//);
    const consent = await signInAt(browser, login, other);
    expect(await consent.answer.text()).toContain(keyId(other));
  });

  it("answers prompt=none with an error instead of a page", async () => {
    const browser = new Browser();
    const clientId = await register(server.url);
    const { away } = await browser.follow(authorizeUrl(server.url, clientId, { prompt: "none" }));
    expect(away?.searchParams.get("error")).toBe("login_required");
  });
});

describe("refresh tokens", () => {
  it("are good once, and the one that replaces it works", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key);
    const next = await refresh(clientId, tokens.refresh_token);
    expect(next.status).toBe(200);
    expect(next.body.refresh_token).not.toBe(tokens.refresh_token);
    const who = await server.authority.authenticate(next.body.access_token);
    expect(who).toMatchObject({ clientId, keyId: keyId(key), principal: { owner: keyId(key) } });
    expect((await refresh(clientId, next.body.refresh_token)).status).toBe(200);
  });

  it("end the whole grant when one is used again: tokens that came of it die too", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key);
    const next = await refresh(clientId, tokens.refresh_token);
    const replay = await refresh(clientId, tokens.refresh_token);
    expect(replay).toMatchObject({ status: 400, body: { error: "invalid_grant" } });
    expect((await refresh(clientId, next.body.refresh_token)).status).toBe(400);
    const late = await openTwinAuthority(next.body.access_token);
    expect(late).toBe("unauthenticated");
  });

  it("are good for one of two that use one at once, at two processes", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key);
    const twin = await server.twin();
    const fields = {
      grant_type: "refresh_token",
      client_id: clientId,
      refresh_token: tokens.refresh_token ?? "",
    };
    const answers = await Promise.all(
      [server.url, twin.url, server.url, twin.url].map((url) => tokenRequest(url, fields)),
    );
    await twin.close();
    expect(answers.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(1);
    expect(answers.every(({ status }) => status === 200 || status === 400)).toBe(true);
  });

  it("can ask for less, and not for more", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key, { scope: "vm:read pack:read" });
    const less = await refresh(clientId, tokens.refresh_token, { scope: "vm:read" });
    expect(less.body.scope).toBe("vm:read");
    const more = await refresh(clientId, less.body.refresh_token, { scope: "vm:read admin" });
    expect(more).toMatchObject({ status: 400, body: { error: "invalid_scope" } });
  });

  it("give less once the account has less", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key, { scope: "vm:read vm:write" });
    await server.authority.admit({ id: keyId(key) }, new Set(["vm:read"]));
    expect((await refresh(clientId, tokens.refresh_token)).body.scope).toBe("vm:read");
  });

  it("stand nowhere in the database, nor do codes", async () => {
    const key = await server.admit("secp256k1");
    const { tokens } = await obtainTokens(server.url, key);
    for (const kind of ["oidc:RefreshToken", "oidc:AuthorizationCode"]) {
      const { items } = await server.store.documents.list({ kind, owner: keyId(key), limit: 50 });
      expect(items.length).toBeGreaterThan(0);
      expect(JSON.stringify(items)).not.toContain(tokens.refresh_token);
    }
  });
});

describe("several processes, one server", () => {
  it("a flow begun at one goes on at the other, and a restart loses neither session nor token", async () => {
    const key = await server.admit("secp256k1");
    const twin = await server.twin();
    const browser = new Browser();
    const clientId = await register(server.url);
    const { verifier, challenge } = pkce();
    const url = authorizeUrl(twin.url, clientId, { code_challenge: challenge, resource: server.audience });
    // The twin has another port, so its redirects lead to the public address: the same browser goes on there.
    const first = await browser.fetch(url);
    const login = await browser.follow(new URL(first.headers.get("location") ?? "", server.url));
    await server.restart();
    const consent = await signInAt(browser, login, key);
    await server.restart();
    const allow = form({ csrf: await formToken(consent.answer), decision: "allow" });
    const { away } = await browser.follow(consent.url, allow);
    const { body } = await tokenRequest(twin.url, {
      grant_type: "authorization_code",
      client_id: clientId,
      code: away?.searchParams.get("code") ?? "",
      redirect_uri: REDIRECT,
      code_verifier: verifier,
    });
    expect((await server.authority.authenticate(body.access_token)).principal.owner).toBe(keyId(key));
    await server.restart();
    const again = await browser.follow(authorizeUrl(server.url, clientId));
    expect(again.away?.searchParams.get("code")).toBeTruthy();
    expect((await refresh(clientId, body.refresh_token)).status).toBe(200);
    await twin.close();
  });

  it("a rotated signing key signs the next token, and the one before still verifies", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key);
    await server.authority.rotate();
    const next = await refresh(clientId, tokens.refresh_token);
    const kid = (token: string) =>
      JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()).kid;
    expect(kid(next.body.access_token)).not.toBe(kid(tokens.access_token));
    for (const { access_token } of [tokens, next.body]) {
      expect((await server.authority.authenticate(access_token)).principal.owner).toBe(keyId(key));
    }
    const { keys } = (await (await fetch(`${server.url}/oauth/jwks`)).json()) as { keys: object[] };
    expect(keys).toHaveLength(2);
    expect(JSON.stringify(keys)).not.toContain('"d"');
  });
});

describe("what is left behind", () => {
  it("nothing in the log, and every sign-in, decision, token and refusal in the audit log", () => {
    expect(server.logged).toEqual([]);
    const actions = new Set(server.audited.map(({ action }) => action));
    const done = ["/auth/login", "/auth/consent (allow)", "/auth/consent (deny)", "/oauth/token"];
    for (const path of done) expect(actions).toContain(`POST ${path}`);
    const made = server.audited.filter(
      ({ action, outcome }) => action.endsWith("/oauth/token") && outcome === "ok",
    );
    for (const { owner, target } of made) expect([owner, target]).not.toContain(null);
    const refused = { action: "POST /oauth/token", outcome: "unauthenticated", owner: null, target: null };
    expect(server.audited).toContainEqual(refused);
  });
});

/** What another process, which has verified nothing yet, says of a token. */
async function openTwinAuthority(token: string): Promise<string> {
  await server.restart();
  return server.authority.authenticate(token).then(
    () => "accepted",
    (error: { code: string }) => error.code,
  );
}
