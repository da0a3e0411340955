// Attacks with authorization requests, with codes, and with the headers of a request.

import { request as httpRequest } from "node:http";
import { type KeyPair, keyId } from "@formation-mcp/auth/keys";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  asked,
  authorize,
  authorizeUrl,
  Browser,
  json,
  obtainTokens,
  pkce,
  REDIRECT,
  register,
  tokenRequest,
} from "./browser.ts";
import { type OAuthServer, openOAuthServer } from "./server.ts";

let server: OAuthServer;
let key: KeyPair;
beforeAll(async () => {
  server = await openOAuthServer();
  key = await server.admit("secp256k1");
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** A code, and what it takes to redeem it. */
async function code() {
  const clientId = await register(server.url);
  const { verifier, challenge } = pkce();
  const url = authorizeUrl(server.url, clientId, { code_challenge: challenge });
  const away = await authorize(new Browser(), url, key);
  return {
    grant_type: "authorization_code",
    client_id: clientId,
    code: away.searchParams.get("code") ?? "",
    redirect_uri: REDIRECT,
    code_verifier: verifier,
  };
}

describe("nobody is sent to a place that the client did not register", () => {
  it.each([
    "https://evil.example/callback",
    "https://app.example.com.evil.example/callback",
    "https://app.example.com@evil.example/callback",
    "https://app.example.com:444/callback",
    "https://app.example.com/callback/more",
    "https://app.example.com/callback?x=1",
    "https://app.example.com/callback#x",
    "https://app.example.com/callback/../evil",
    "http://app.example.com/callback",
    "//app.example.com/callback",
    "javascript:alert(1)",
    "data:text/html,x",
    "https://app.example.com\\@evil.example/callback",
    "",
  ])("%j", async (redirect_uri) => {
    const { status, location } = await asked(
      authorizeUrl(server.url, await register(server.url), { redirect_uri }),
    );
    expect([status, location]).toEqual([400, null]);
  });

  it.each([
    ["a script", ["javascript:alert(1)"]],
    ["data", ["data:text/html,x"]],
    ["a file", ["file:///etc/passwd"]],
    ["plain http elsewhere", ["http://app.example.com/cb"]],
    ["a fragment", ["https://app.example.com/cb#x"]],
    ["an empty fragment", ["https://app.example.com/cb#"]],
    ["credentials", ["https://a:b@app.example.com/cb"]],
    ["what would end a policy", ["https://a;sandbox.example/cb"]],
    ["what would be a quoted policy word", ["https://'unsafe-inline'/cb"]],
    ["a good and a bad one", [REDIRECT, "javascript:alert(1)"]],
    ["none", []],
    ["a thousand", Array.from({ length: 1000 }, (_, at) => `https://app.example.com/${at}`)],
    ["no text", [{ href: REDIRECT }]],
  ])("a client can't register %s", async (_, redirect_uris) => {
    const answer = await fetch(`${server.url}/oauth/register`, json({ redirect_uris }));
    expect([answer.status, ((await answer.json()) as { error: string }).error]).toEqual([
      400,
      "invalid_redirect_uri",
    ]);
  });

  it("errors go only to registered redirect URIs, and name the issuer", async () => {
    const clientId = await register(server.url);
    const { location } = await asked(authorizeUrl(server.url, clientId, { response_type: "token" }));
    expect(`${location?.origin}${location?.pathname}`).toBe(REDIRECT);
    expect(location?.searchParams.get("iss")).toBe(server.url);
  });
});

describe("an authorization request is refused", () => {
  it.each([
    ["without a challenge", { code_challenge: undefined, code_challenge_method: undefined }],
    ["with a challenge in plain", { code_challenge_method: "plain" }],
    ["with a challenge of no stated method", { code_challenge_method: undefined }],
    ["with a short challenge", { code_challenge: "short" }],
    ["for a token at once", { response_type: "token" }],
    ["for an ID token", { response_type: "code id_token", nonce: "n" }],
    ["for another resource", { resource: "https://evil.example/mcp" }],
    ["for this server as a whole", { resource: "https://evil.example" }],
    ["with an answer in the fragment", { response_mode: "fragment" }],
    ["with an answer as a form", { response_mode: "form_post" }],
    ["with a request in itself", { request: "eyJhbGciOiJub25lIn0.e30." }],
    ["with a request elsewhere", { request_uri: "https://127.0.0.1/request" }],
  ])("%s", async (_, more) => {
    const { status, location, body } = await asked(
      authorizeUrl(server.url, await register(server.url), more),
    );
    if (status === 400) return expect(body).not.toContain("<form");
    expect(`${location?.origin}${location?.pathname}`).toBe(REDIRECT);
    expect(location?.searchParams.get("error")).toBeTruthy();
    expect(location?.searchParams.get("code")).toBeNull();
  });

  it.each([
    "",
    "nobody",
    "__proto__",
    "constructor",
    "key:short",
    "formation",
    "0x0000000000000000000000000000000000000000",
  ])("a request of the client %j is refused", async (clientId) => {
    const { status, location } = await asked(authorizeUrl(server.url, clientId));
    expect([status, location]).toEqual([400, null]);
  });

  it("a request of an agent, which has no pages, is refused", async () => {
    const agent = await server.admit("ed25519");
    const { status, location } = await asked(authorizeUrl(server.url, keyId(agent)));
    expect([status, location]).toEqual([400, null]);
  });

  it("a request longer than 8 KiB, and one with two scope parameters, is refused", async () => {
    const clientId = await register(server.url);
    expect((await asked(authorizeUrl(server.url, clientId, { state: "s".repeat(9000) }))).status).toBe(400);
    const twice = authorizeUrl(server.url, clientId);
    twice.searchParams.append("scope", "admin");
    expect((await asked(twice)).location?.searchParams.get("error")).toBe("invalid_request");
  });
});

describe("a code is redeemed", () => {
  it("a code is redeemed once: a second use ends the tokens of the first", async () => {
    const fields = await code();
    const { body } = await tokenRequest(server.url, fields);
    expect(await tokenRequest(server.url, fields)).toMatchObject({
      status: 400,
      body: { error: "invalid_grant" },
    });
    const renewal = {
      grant_type: "refresh_token",
      client_id: fields.client_id,
      refresh_token: body.refresh_token ?? "",
    };
    expect((await tokenRequest(server.url, renewal)).status).toBe(400);
    await server.restart();
    await expect(server.authority.authenticate(body.access_token)).rejects.toMatchObject({
      code: "unauthenticated",
    });
  });

  it("of many concurrent uses of a code, at two processes, one succeeds", async () => {
    const fields = await code();
    const twin = await server.twin();
    const all = [server.url, twin.url, server.url, twin.url].map((url) => tokenRequest(url, fields));
    const answers = await Promise.all(all);
    await twin.close();
    expect(answers.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(1);
  });

  it.each([
    ["by another client", async () => ({ client_id: await register(server.url) })],
    ["with another verifier", async () => ({ code_verifier: pkce().verifier })],
    ["without a verifier", async () => ({ code_verifier: "" })],
    ["for another place", async () => ({ redirect_uri: "https://app.example.com/other" })],
    ["without a place", async () => ({ redirect_uri: "" })],
    ["for another resource", async () => ({ resource: "https://evil.example/mcp" })],
    ["by an agent", async () => ({ client_id: "formation" })],
    ["as another grant", async () => ({ grant_type: "refresh_token" })],
    ["as a grant that is not there", async () => ({ grant_type: "password", username: "a", password: "b" })],
  ])("a code is not redeemed %s", async (_, change) => {
    const { status, body } = await tokenRequest(server.url, { ...(await code()), ...(await change()) });
    expect([400, 401]).toContain(status);
    expect(body.access_token).toBeUndefined();
  });

  it("another client cannot use a refresh token", async () => {
    const { tokens, clientId } = await obtainTokens(server.url, key);
    const stranger = await register(server.url);
    const renewal = { grant_type: "refresh_token", refresh_token: tokens.refresh_token ?? "" };
    expect((await tokenRequest(server.url, { ...renewal, client_id: stranger })).status).toBe(400);
    expect((await tokenRequest(server.url, { ...renewal, client_id: clientId })).status).toBe(200);
  });
});

async function loginPath(): Promise<string> {
  const login = await new Browser().follow(authorizeUrl(server.url, await register(server.url)));
  return login.url.pathname;
}

describe("whatever a request says,", () => {
  /** A request whose headers are what they are. */
  const raw = (path: string, headers: Record<string, string>) =>
    new Promise<{ status: number; headers: NodeJS.Dict<string | string[]>; body: string }>((done, fail) => {
      const { port } = new URL(server.url);
      const sent = httpRequest({ host: "127.0.0.1", port, path, headers }, (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (chunk) => {
          body += chunk;
        });
        response.on("end", () => done({ status: response.statusCode ?? 0, headers: response.headers, body }));
      });
      sent.on("error", fail).end();
    });
  const elsewhere = {
    host: "evil.example",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    forwarded: "host=evil.example",
  };

  it("the metadata names this server", async () => {
    for (const path of ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration?x=1"]) {
      const { status, body } = await raw(path, elsewhere);
      expect(status).toBe(200);
      expect(body).not.toContain("evil");
      expect(JSON.parse(body)).toMatchObject({
        issuer: server.url,
        authorization_endpoint: `${server.url}/oauth/authorize`,
        client_id_metadata_document_supported: true,
        authorization_response_iss_parameter_supported: true,
      });
    }
  });

  it("a sign-in stays at this server, and an agent's assertion for another is refused", async () => {
    const url = authorizeUrl(server.url, await register(server.url));
    const { headers } = await raw(`${url.pathname}${url.search}`, elsewhere);
    expect(headers["location"]).toMatch(/^\/auth\/login\//);
    expect(String(headers["set-cookie"])).not.toContain("evil");
  });

  it("no answer can be framed, sniffed or kept, and none has a policy with holes", async () => {
    const paths = [
      "/oauth/authorize",
      "/oauth/token",
      "/oauth/nothing",
      "/auth",
      "/auth/codes/x",
      await loginPath(),
    ];
    for (const path of paths) {
      const { headers } = await raw(path, {});
      expect(headers["x-frame-options"], path).toBe("DENY");
      expect(headers["x-content-type-options"], path).toBe("nosniff");
      expect(headers["cache-control"], path).toContain("no-store");
      const policy = String(headers["content-security-policy"]);
      expect(policy, path).toContain("default-src 'none'");
      expect(policy, path).toContain("frame-ancestors 'none'");
      expect(policy, path).not.toMatch(/unsafe|\*|data:/);
    }
  });

  it("cookies are for this server's pages alone: not for scripts, not for other sites", async () => {
    const answer = await fetch(authorizeUrl(server.url, await register(server.url)), { redirect: "manual" });
    const cookies = answer.headers.getSetCookie();
    expect(cookies.length).toBeGreaterThanOrEqual(4);
    for (const cookie of cookies) {
      expect(cookie.toLowerCase()).toMatch(/; httponly/);
      expect(cookie.toLowerCase()).toMatch(/; samesite=lax/);
    }
  });

  it.each([
    "/oauth",
    "/oauth/",
    "/oauth/me",
    "/oauth/session/end",
    "/oauth/request",
    "/oauth/introspect",
    "/auth/",
    "/auth/x",
  ])("there is nothing at %s", async (path) => {
    expect((await fetch(server.url + path)).status).toBe(404);
    expect((await fetch(server.url + path, { method: "POST" })).status).toBe(404);
  });

  it("other paths are left to the rest of the server", async () => {
    for (const path of [
      "/",
      "/api/auth/login",
      "/oauthx",
      "/authx",
      "/mcp",
      "/.well-known/oauth-authorization-server/x",
    ]) {
      expect((await fetch(server.url + path)).status).toBe(418);
    }
  });
});

it("a client that closes the connection in the middle of a request leaves no trace", async () => {
  const { port } = new URL(server.url);
  for (const path of ["/oauth/token", "/oauth/register", "/auth/codes/x"]) {
    await new Promise<void>((done) => {
      const headers = { "content-type": "application/json", "content-length": "1000" };
      const sent = httpRequest({ host: "127.0.0.1", port, path, method: "POST", headers });
      sent.on("error", () => undefined).on("close", () => done());
      sent.write("{", () => setImmediate(() => sent.destroy()));
    });
  }
});

it("after hostile requests the server still works, and its log is empty", async () => {
  const { tokens } = await obtainTokens(server.url, key);
  expect((await server.authority.authenticate(tokens.access_token)).principal.owner).toBe(keyId(key));
  expect(server.logged).toEqual([]);
});
