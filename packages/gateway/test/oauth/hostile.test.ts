// What strangers try: other people's pages and clients, replays, forged forms, addresses inside the network.

import { request as httpRequest } from "node:http";
import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  authorize,
  authorizeUrl,
  Browser,
  form,
  formToken,
  json,
  obtainTokens,
  pkce,
  REDIRECT,
  register,
  signInAt,
  tokenRequest,
} from "./browser.ts";
import { type DocumentHost, openDocumentHost } from "./documents.ts";
import { type OAuthServer, openOAuthServer } from "./server.ts";

let documents: DocumentHost;
let server: OAuthServer;
let key: KeyPair;
/** What names lead to, for names that tests make up. */
const names = new Map<string, string[]>();
const lookedUp: string[] = [];
beforeAll(async () => {
  documents = await openDocumentHost();
  server = await openOAuthServer({
    outside: {
      privateHosts: [documents.host],
      ca: documents.ca,
      lookup: async (name) => {
        lookedUp.push(name);
        if (name === "localhost") return [{ address: "127.0.0.1", family: 4 }];
        return (names.get(name) ?? []).map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
      },
    },
  });
  key = await server.admit("secp256k1");
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await documents[Symbol.asyncDispose]();
});

/** Asks for access and says how that ended: a page, an error page, or an error for the client. */
async function asked(url: URL): Promise<{ status: number; location: URL | null; body: string }> {
  const answer = await fetch(url, { redirect: "manual", headers: { accept: "text/html" } });
  const location = answer.headers.get("location");
  return {
    status: answer.status,
    location: location === null ? null : new URL(location, url),
    body: await answer.text(),
  };
}

async function loginPage(browser = new Browser()) {
  const login = await browser.follow(authorizeUrl(server.url, await register(server.url)));
  return { browser, login, csrf: await formToken(login.answer) };
}

async function consentPage() {
  const { browser, login } = await loginPageUnread();
  const consent = await signInAt(browser, login, key);
  return { browser, consent, csrf: await formToken(consent.answer) };
}

async function loginPageUnread() {
  const browser = new Browser();
  return { browser, login: await browser.follow(authorizeUrl(server.url, await register(server.url))) };
}

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

  it("errors go to registered places alone, and name the issuer", async () => {
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
  ])("of the client %j", async (clientId) => {
    const { status, location } = await asked(authorizeUrl(server.url, clientId));
    expect([status, location]).toEqual([400, null]);
  });

  it("of an agent, which has no pages", async () => {
    const agent = await server.admit("ed25519");
    const { status, location } = await asked(authorizeUrl(server.url, keyId(agent)));
    expect([status, location]).toEqual([400, null]);
  });

  it("that is longer than 8 KiB, and with a scope twice", async () => {
    const clientId = await register(server.url);
    expect((await asked(authorizeUrl(server.url, clientId, { state: "s".repeat(9000) }))).status).toBe(400);
    const twice = authorizeUrl(server.url, clientId);
    twice.searchParams.append("scope", "admin");
    expect((await asked(twice)).location?.searchParams.get("error")).toBe("invalid_request");
  });
});

describe("a code is redeemed", () => {
  it("once: the second time ends what the first one gave", async () => {
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

  it("by one of many at once, at two processes", async () => {
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
  ])("but not %s", async (_, change) => {
    const { status, body } = await tokenRequest(server.url, { ...(await code()), ...(await change()) });
    expect([400, 401]).toContain(status);
    expect(body.access_token).toBeUndefined();
  });

  it("and a refresh token not by another client", async () => {
    const { tokens, clientId } = await obtainTokens(server.url, key);
    const stranger = await register(server.url);
    const renewal = { grant_type: "refresh_token", refresh_token: tokens.refresh_token ?? "" };
    expect((await tokenRequest(server.url, { ...renewal, client_id: stranger })).status).toBe(400);
    expect((await tokenRequest(server.url, { ...renewal, client_id: clientId })).status).toBe(200);
  });
});

describe("a form counts only from its own page and browser", () => {
  it.each([
    ["another origin", { origin: "https://evil.example" }],
    ["an origin that hides", { origin: "null" }],
    ["another port of this host", { origin: "http://127.0.0.1:1" }],
    ["another site, by its mark", { "sec-fetch-site": "cross-site" }],
    ["a neighbour site, by its mark", { "sec-fetch-site": "same-site" }],
    ["another content type", { "content-type": "text/plain" }],
  ])("not from %s", async (_, headers) => {
    const { browser, consent, csrf } = await consentPage();
    const init = form({ csrf, decision: "allow" });
    const answer = await browser.fetch(consent.url, { ...init, headers: { ...init.headers, ...headers } });
    expect([answer.status, answer.headers.get("location")]).toEqual([403, null]);
  });

  it.each([
    ["no token", async () => ""],
    ["a made-up token", async () => "A".repeat(43)],
    ["the token of another sign-in", async () => (await loginPage()).csrf],
  ])("not with %s", async (_, token) => {
    const { browser, consent } = await consentPage();
    const answer = await browser.fetch(consent.url, form({ csrf: await token(), decision: "allow" }));
    expect([answer.status, answer.headers.get("location")]).toEqual([403, null]);
  });

  it("not from another browser, nor with another's cookies", async () => {
    const { browser, consent, csrf } = await consentPage();
    const other = await consentPage();
    for (const each of [new Browser(), other.browser]) {
      const answer = await each.fetch(consent.url, form({ csrf, decision: "allow" }));
      expect(answer.status).toBe(404);
    }
    const mine = browser.cookies.find(({ path }) => path === consent.url.pathname);
    // A cookie whose signature is not ours, or is another's.
    const forged = new Browser();
    forged.cookies.push({ name: mine?.name ?? "", value: mine?.value ?? "", path: "/" });
    expect((await forged.fetch(consent.url, form({ csrf, decision: "allow" }))).status).toBe(404);
  });

  it("once, even if it is sent twice at once", async () => {
    const { browser, consent, csrf } = await consentPage();
    const send = () =>
      browser.follow(consent.url, form({ csrf, decision: "allow" })).catch(() => ({ away: null }));
    const ends = await Promise.all([send(), send(), send()]);
    expect(ends.filter(({ away }) => away?.searchParams.get("code")).length).toBeLessThanOrEqual(1);
  });

  it("a consent page can't be answered as a login page, nor the other way around", async () => {
    const { browser, consent, csrf } = await consentPage();
    const as = consent.url.href.replace("/consent/", "/login/");
    expect((await browser.fetch(as, form({ csrf, decision: "allow" }))).status).toBe(404);
    const { login, ...other } = await loginPage();
    const skip = login.url.href.replace("/login/", "/consent/");
    expect((await other.browser.fetch(skip, form({ csrf: other.csrf, decision: "allow" }))).status).toBe(404);
  });

  it("nobody goes on without having signed", async () => {
    const { browser, login } = await loginPage();
    const uid = login.url.pathname.split("/").at(-1);
    const { answer, away } = await browser.follow(`${server.url}/oauth/authorize/${uid}`);
    expect(away).toBeNull();
    expect(answer.url).not.toContain("code=");
  });
});

describe("a signature is taken only for the sign-in it was made for", () => {
  const post = async (change: (message: string, by: KeyPair) => Promise<Record<string, string>>) => {
    const { browser, login, csrf } = await loginPage();
    const init = json({ address: keyId(key) }, { "x-form-token": csrf });
    const { message } = (await (await browser.fetch(`${login.url}/challenge`, init)).json()) as {
      message: string;
    };
    return browser.fetch(login.url, form({ csrf, ...(await change(message, key)) }));
  };
  const signed = (by: KeyPair, message: string) => {
    const { signature } = signMessage(by, message);
    return { message, signature };
  };

  it("its own is", async () => {
    expect((await post(async (message) => signed(key, message))).status).toBe(303);
  });

  it.each([
    [
      "one for signing in elsewhere",
      async () => signed(key, (await server.authority.challenge({ address: keyId(key) })).message),
    ],
    [
      "one for another sign-in",
      async () => {
        const { browser, login, csrf } = await loginPage();
        const init = json({ address: keyId(key) }, { "x-form-token": csrf });
        const { message } = (await (await browser.fetch(`${login.url}/challenge`, init)).json()) as {
          message: string;
        };
        return signed(key, message);
      },
    ],
    ["one by another key", async (message: string) => signed(generateKey("secp256k1"), message)],
    ["one over changed words", async (message: string) => signed(key, message.replace("vm:read", "nothing"))],
    [
      "one that names the sign-in but was never issued",
      async (message: string) =>
        signed(key, message.replace(/Nonce: \w+/, "Nonce: 00112233445566778899aabbccddeeff")),
    ],
    ["an empty one", async (message: string) => ({ message, signature: "" })],
  ])("not %s", async (_, change) => {
    const answer = await post(change);
    expect([answer.status, answer.headers.get("location")]).toEqual([403, null]);
  });

  it("its own is, once", async () => {
    const { browser, login, csrf } = await loginPage();
    const init = json({ address: keyId(key) }, { "x-form-token": csrf });
    const { message } = (await (await browser.fetch(`${login.url}/challenge`, init)).json()) as {
      message: string;
    };
    const fields = form({ csrf, ...signed(key, message) });
    const answers = await Promise.all([browser.fetch(login.url, fields), browser.fetch(login.url, fields)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([303, 403]);
  });
});

describe("the server reads nothing inside the network", () => {
  const inner = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "fc00::1",
    "fd12::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
  ];
  it.each(inner)("a document whose name leads to %s", async (address) => {
    names.set("inner.example", [address]);
    const { status, location, body } = await asked(
      authorizeUrl(server.url, "https://inner.example/app.json"),
    );
    expect([status, location]).toEqual([400, null]);
    expect(body).not.toMatch(/ECONN|EHOST|timeout|certificate|127\.0|not public/i);
  });

  it("a document whose name leads to a public and an inner address", async () => {
    names.set("both.example", ["93.184.215.14", "127.0.0.1"]);
    expect((await asked(authorizeUrl(server.url, "https://both.example/app.json"))).status).toBe(400);
  });

  it("a name that changes its mind is looked up once for each connection, and what was checked is dialled", async () => {
    lookedUp.length = 0;
    const { port } = new URL(documents.origin);
    names.set("rebinding.example", ["127.0.0.1"]);
    const reads = documents.read.length;
    expect((await asked(authorizeUrl(server.url, `https://rebinding.example:${port}/app.json`))).status).toBe(
      400,
    );
    expect(lookedUp).toEqual(["rebinding.example"]);
    expect(documents.read.length).toBe(reads);
  });

  it.each([
    () => `https://127.0.0.1:${new URL(documents.origin).port}/a.json`,
    () => `https://127.1:${new URL(documents.origin).port}/a.json`,
    () => `https://2130706433:${new URL(documents.origin).port}/a.json`,
    () => `https://0x7f.1:${new URL(documents.origin).port}/a.json`,
    () => `https://[::1]:${new URL(documents.origin).port}/a.json`,
    () => `https://[::ffff:7f00:1]:${new URL(documents.origin).port}/a.json`,
    () => `https://localhost.:${new URL(documents.origin).port}/a.json`,
    () => "https://user:pass@app.example.com/a.json",
    () => "http://app.example.com/a.json",
    () => "https://app.example.com/a.json#x",
    () => "https://app.example.com/a/../b.json",
    () => "file:///etc/passwd",
  ])("a document at an address that is one itself or is malformed: %s", async (address) => {
    const reads = documents.read.length;
    const { status, location } = await asked(authorizeUrl(server.url, address()));
    expect([status, location, documents.read.length]).toEqual([400, null, reads]);
  });
});

describe("a metadata document is refused", () => {
  const good = (url: string) => ({ client_id: url, client_name: "App", redirect_uris: [REDIRECT] });
  const open = async (path: string) =>
    (await asked(authorizeUrl(server.url, `${documents.origin}${path}`))).status;

  it.each<[string, (url: string) => object]>([
    ["that is somebody else's", () => good("https://app.example.com/other.json")],
    ["without its own name", () => ({ redirect_uris: [REDIRECT] })],
    ["with a secret", (url) => ({ ...good(url), client_secret: "s" })],
    [
      "with a method that needs a secret",
      (url) => ({ ...good(url), token_endpoint_auth_method: "client_secret_basic" }),
    ],
    ["without a place to return to", (url) => ({ ...good(url), redirect_uris: [] })],
    ["with a script to return to", (url) => ({ ...good(url), redirect_uris: ["javascript:alert(1)"] })],
    ["with plain http to return to", (url) => ({ ...good(url), redirect_uris: ["http://app.example.com/"] })],
    [
      "with another place than is asked for",
      (url) => ({ ...good(url), redirect_uris: ["https://other.example/"] }),
    ],
    ["that is a list", () => []],
    [
      "with keys that are no keys",
      (url) => ({ ...good(url), token_endpoint_auth_method: "private_key_jwt", jwks: 7 }),
    ],
  ])("%s", async (name, make) => {
    const path = `/bad/${name.replaceAll(" ", "-")}.json`;
    documents.publish(path, make(`${documents.origin}${path}`));
    expect(await open(path)).toBe(400);
  });

  it("that leads elsewhere, is too large, is no JSON, is not there or never ends", async () => {
    const target = documents.publish("/target.json", good(`${documents.origin}/target.json`));
    documents.publish("/moved.json", (response) => response.writeHead(302, { location: target }).end());
    documents.publish("/large.json", (response) => response.end(`{"client_id":"${"x".repeat(100_000)}"}`));
    documents.publish("/text.json", (response) => response.end("hello"));
    documents.publish("/slow.json", (response) => void response.write("{"));
    const paths = ["/moved.json", "/large.json", "/text.json", "/missing.json", "/slow.json"];
    expect(await Promise.all(paths.map(open))).toEqual([400, 400, 400, 400, 400]);
    expect(documents.read).not.toContain("/target.json");
  });

  it("but a good one is not, and what it calls itself is text", async () => {
    const path = "/good.json";
    const hostile = {
      client_name: "<script>alert(1)</script>\u202e\u0000\n",
      logo_uri: "https://127.0.0.1/x",
    };
    documents.publish(path, {
      ...good(`${documents.origin}${path}`),
      ...hostile,
      __proto__: { admin: true },
    });
    const browser = new Browser();
    const login = await browser.follow(authorizeUrl(server.url, `${documents.origin}${path}`));
    const page = await login.answer.text();
    expect(login.answer.status).toBe(200);
    expect(page).toContain("&#60;script&#62;alert(1)&#60;/script&#62;");
    expect(page).toContain(`<dd>${documents.host}</dd>`);
    for (const bad of ["<script>alert", "\u202e", "\u0000", "127.0.0.1/x"]) expect(page).not.toContain(bad);
  });
});

describe("registration", () => {
  const post = (body: string, type = "application/json") =>
    fetch(`${server.url}/oauth/register`, { method: "POST", headers: { "content-type": type }, body });

  it.each([
    ["no JSON", "{", 400],
    ["a list", "[]", 400],
    ["nothing", "null", 400],
    ["a text", '"x"', 400],
    ["more than 48 KiB", JSON.stringify({ redirect_uris: [REDIRECT], client_name: "x".repeat(50_000) }), 413],
    [
      "keys that are no keys",
      JSON.stringify({
        redirect_uris: [REDIRECT],
        token_endpoint_auth_method: "private_key_jwt",
        jwks: { keys: [7] },
      }),
      400,
    ],
  ])("takes not %s", async (_, body, status) => {
    expect((await post(body)).status).toBe(status);
  });

  it("takes JSON alone, and by POST alone", async () => {
    expect((await post("redirect_uris=x", "application/x-www-form-urlencoded")).status).toBe(400);
    for (const method of ["GET", "PUT", "DELETE"]) {
      expect((await fetch(`${server.url}/oauth/register`, { method })).status).toBe(404);
    }
  });

  it("is not led by names that objects have", async () => {
    const body = `{"__proto__":{"redirect_uris":["https://evil.example/"]},"constructor":{"prototype":{"x":1}},"redirect_uris":["${REDIRECT}"],"client_id":"mine","client_secret":"mine"}`;
    const answer = await post(body);
    const made = (await answer.json()) as Record<string, unknown>;
    expect(answer.status).toBe(201);
    expect(made["client_id"]).not.toBe("mine");
    expect(made["redirect_uris"]).toEqual([REDIRECT]);
    expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
  });

  it("gives nobody the client of another", async () => {
    const clientId = await register(server.url);
    for (const method of ["GET", "PUT", "DELETE"]) {
      expect((await fetch(`${server.url}/oauth/register/${clientId}`, { method })).status).toBe(404);
    }
  });
});

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
    const { login } = await loginPageUnread();
    const paths = [
      "/oauth/authorize",
      "/oauth/token",
      "/oauth/nothing",
      "/auth",
      "/auth/codes/x",
      login.url.pathname,
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

  it("what is not the OAuth server's is left to others", async () => {
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

it("whoever asks too often waits", async () => {
  const strict = await openOAuthServer({ rates: { signIn: 3, address: 0, failure: 0 } });
  const answers = [];
  for (let tries = 0; tries < 5; tries++) {
    answers.push(await fetch(`${strict.url}/oauth/register`, json({ redirect_uris: [REDIRECT] })));
  }
  expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 429, 429]);
  expect(Number(answers[4]?.headers.get("retry-after"))).toBeGreaterThan(0);
  await strict[Symbol.asyncDispose]();
});

it("after all that the server still works, said nothing in its log, and remembers who was refused", async () => {
  const { tokens } = await obtainTokens(server.url, key);
  expect((await server.authority.authenticate(tokens.access_token)).principal.owner).toBe(keyId(key));
  expect(server.logged).toEqual([]);
  const refused = server.audited.filter(({ outcome }) => outcome === "forbidden");
  expect(refused.length).toBeGreaterThan(5);
});
