import { type KeyPair, keyId } from "@formation-mcp/auth/keys";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { asked, authorizeUrl, Browser, obtainTokens, REDIRECT, register } from "./browser.ts";
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
  it.each(inner)("a document whose name resolves to %s is not fetched", async (address) => {
    names.set("inner.example", [address]);
    const { status, location, body } = await asked(
      authorizeUrl(server.url, "https://inner.example/app.json"),
    );
    expect([status, location]).toEqual([400, null]);
    expect(body).not.toMatch(/ECONN|EHOST|timeout|certificate|127\.0|not public/i);
  });

  it("a document whose name resolves to a public and an internal address is not fetched", async () => {
    names.set("both.example", ["93.184.215.14", "127.0.0.1"]);
    expect((await asked(authorizeUrl(server.url, "https://both.example/app.json"))).status).toBe(400);
  });

  it("a name is resolved once per connection, and the address that was checked is dialled (DNS rebinding)", async () => {
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
  ])("a document at an IP address or a malformed URL is not fetched: %s", async (address) => {
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

  it("a document that redirects, is too large, is not JSON, does not exist or never ends is refused", async () => {
    const target = documents.publish("/target.json", good(`${documents.origin}/target.json`));
    documents.publish("/moved.json", (response) => response.writeHead(302, { location: target }).end());
    documents.publish("/large.json", (response) => response.end(`{"client_id":"${"x".repeat(100_000)}"}`));
    documents.publish("/text.json", (response) => response.end("hello"));
    documents.publish("/slow.json", (response) => void response.write("{"));
    const paths = ["/moved.json", "/large.json", "/text.json", "/missing.json", "/slow.json"];
    expect(await Promise.all(paths.map(open))).toEqual([400, 400, 400, 400, 400]);
    expect(documents.read).not.toContain("/target.json");
  });

  it("a valid document is accepted, and the name in it is shown as text", async () => {
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
    [
      "more than 16 KiB",
      JSON.stringify({
        redirect_uris: Array.from({ length: 20 }, (_, at) => `${REDIRECT}/${at}/${"x".repeat(1000)}`),
      }),
      413,
    ],
    [
      "keys that are no keys",
      JSON.stringify({
        redirect_uris: [REDIRECT],
        token_endpoint_auth_method: "private_key_jwt",
        jwks: { keys: [7] },
      }),
      400,
    ],
  ])("refuses %s", async (_, body, status) => {
    expect((await post(body)).status).toBe(status);
  });

  it("takes JSON alone, and by POST alone", async () => {
    expect((await post("redirect_uris=x", "application/x-www-form-urlencoded")).status).toBe(400);
    for (const method of ["GET", "PUT", "DELETE"]) {
      expect((await fetch(`${server.url}/oauth/register`, { method })).status).toBe(404);
    }
  });

  it("ignores names of object properties (__proto__, constructor)", async () => {
    const body = `{"__proto__":{"redirect_uris":["https://evil.example/"]},"constructor":{"prototype":{"x":1}},"redirect_uris":["${REDIRECT}"],"client_id":"mine","client_secret":"mine"}`;
    const answer = await post(body);
    const made = (await answer.json()) as Record<string, unknown>;
    expect(answer.status).toBe(201);
    expect(made["client_id"]).not.toBe("mine");
    expect(made["redirect_uris"]).toEqual([REDIRECT]);
    expect(({} as Record<string, unknown>)["x"]).toBeUndefined();
  });

  it("gives no client the id of another", async () => {
    const clientId = await register(server.url);
    for (const method of ["GET", "PUT", "DELETE"]) {
      expect((await fetch(`${server.url}/oauth/register/${clientId}`, { method })).status).toBe(404);
    }
  });
});

it("after hostile documents the server still works, and its log is empty", async () => {
  const { tokens } = await obtainTokens(server.url, key);
  expect((await server.authority.authenticate(tokens.access_token)).principal.owner).toBe(keyId(key));
  expect(server.logged).toEqual([]);
});
