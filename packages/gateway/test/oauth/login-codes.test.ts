// Login codes: a browser shows one, and the computer that has the key signs it.

import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { authorizeUrl, Browser, form, formToken, json, register } from "./browser.ts";
import { type OAuthServer, openOAuthServer } from "./server.ts";

let server: OAuthServer;
let now = Date.now();
beforeAll(async () => {
  server = await openOAuthServer();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const CODE = /<p class="code">([0-9A-Z]{4}-[0-9A-Z]{4})<\/p>/;

/** A login page and the code that it shows. */
async function shown(at: OAuthServer = server, scope = "vm:read vm:write") {
  const browser = new Browser();
  const clientId = await register(at.url, { client_name: "Ünïque “app”" });
  const login = await browser.follow(authorizeUrl(at.url, clientId, { scope }));
  const page = await login.answer.text();
  const csrf = /name="csrf" value="([^"]+)"/.exec(page)?.[1] ?? "";
  return { browser, url: login.url, csrf, code: CODE.exec(page)?.[1] ?? "", at: at.url };
}

type Shown = Awaited<ReturnType<typeof shown>>;

async function get(url: string) {
  const answer = await fetch(url);
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}
async function post(url: string, body: unknown) {
  const answer = await fetch(url, json(body));
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
}
async function messageFor({ at, code }: Shown, key: KeyPair): Promise<string> {
  const { status, body } = await post(`${at}/auth/codes/${code}/challenge`, { address: keyId(key) });
  expect(status).toBe(200);
  return String(body["message"]);
}
const state = async ({ browser, url }: Shown) =>
  ((await (await browser.fetch(`${url}/state`)).json()) as { state: string }).state;

describe("a code", () => {
  it.each(["secp256k1", "ed25519"] as const)(
    "that a key of kind %s has signed lets the browser go on",
    async (kind) => {
      const key = await server.admit(kind);
      const here = await shown();
      expect(await state(here)).toBe("waiting");
      const about = await get(`${server.url}/auth/codes/${here.code}`);
      expect(about).toMatchObject({
        status: 200,
        body: {
          server: server.url,
          client: { name: "Ünïque “app”", returns_to: "app.example.com", verified_host: null, local: false },
          scopes: [{ scope: "vm:read" }, { scope: "vm:write" }],
        },
      });
      const message = await messageFor(here, key);
      expect(message).toContain(
        "Sign in and return to app.example.com, for an app that calls itself ?n?que ?app?.",
      );
      expect(message).toContain("It asks for: vm:read vm:write.");
      const signed = signMessage(key, message);
      expect(await post(`${server.url}/auth/codes/${here.code}`, signed)).toMatchObject({
        status: 200,
        body: { status: "signed", owner: keyId(key) },
      });
      expect(await state(here)).toBe("signed");
      const next = await here.browser.follow(here.url, form({ csrf: here.csrf, message: "", signature: "" }));
      expect(next.url.pathname).toMatch(/^\/auth\/consent\//);
      expect(await next.answer.text()).toContain(keyId(key));
    },
  );

  it("is read as people type it", async () => {
    const { code } = await shown();
    const [left = "", right = ""] = code.toLowerCase().split("-");
    for (const typed of [
      left + right,
      ` ${left} ${right} `,
      code.replaceAll("0", "o").replaceAll("1", "l"),
    ]) {
      expect((await get(`${server.url}/auth/codes/${encodeURIComponent(typed)}`)).status).toBe(200);
    }
  });

  it("is the same when the page is shown again, and is not in the database", async () => {
    const { browser, url, code } = await shown();
    expect(CODE.exec(await (await browser.fetch(url)).text())?.[1]).toBe(code);
    const found = await server.store.documents.byAlias("login-code", url.pathname.split("/").at(-1) ?? "");
    expect(found).not.toBeNull();
    expect(JSON.stringify(found)).not.toContain(code.replace("-", ""));
  });

  it("is signed once", async () => {
    const key = await server.admit("secp256k1");
    const here = await shown();
    const [one, other] = [await messageFor(here, key), await messageFor(here, key)];
    const url = `${server.url}/auth/codes/${here.code}`;
    const both = await Promise.all([one, other].map((message) => post(url, signMessage(key, message))));
    expect(both.map(({ status }) => status).sort()).toEqual([200, 409]);
    expect((await get(url)).status).toBe(409);
  });

  it("lets only the browser that showed it go on, and once", async () => {
    const key = await server.admit("secp256k1");
    const here = await shown();
    await post(`${server.url}/auth/codes/${here.code}`, signMessage(key, await messageFor(here, key)));
    const fields = form({ csrf: here.csrf, message: "", signature: "" });
    const stranger = await new Browser().fetch(here.url, fields);
    expect(stranger.status).toBe(404);
    const answers = await Promise.all([
      here.browser.fetch(here.url, fields),
      here.browser.fetch(here.url, fields),
    ]);
    expect(answers.map(({ status }) => status).sort()).toEqual([303, 403]);
  });

  it("expires after five minutes; the page then has another", async () => {
    const start = Date.now();
    now = start;
    const late = await openOAuthServer({ clock: { now: () => now } });
    const key = await late.admit("secp256k1");
    const here = await shown(late);
    const message = await messageFor(here, key);
    now = start + 4 * 60_000 + 1000;
    // Less than a minute is left: who opens the page now gets a code of its own.
    const page = await (await here.browser.fetch(here.url)).text();
    expect(CODE.exec(page)?.[1]).not.toBe(here.code);
    const gone = await post(`${late.url}/auth/codes/${here.code}`, signMessage(key, message));
    expect(gone.status).toBe(404);
    await late[Symbol.asyncDispose]();
  });
});

describe("a code can't be", () => {
  it("guessed: wrong codes count against the address, right ones do not", async () => {
    const strict = await openOAuthServer({ rates: { failure: 5, address: 0, signIn: 0 } });
    const { code } = await shown(strict);
    const statuses: number[] = [];
    for (let tries = 0; tries < 8; tries++) {
      statuses.push((await get(`${strict.url}/auth/codes/0000-000${tries}`)).status);
    }
    expect(statuses).toEqual([404, 404, 404, 404, 404, 429, 429, 429]);
    expect((await get(`${strict.url}/auth/codes/${code}`)).status).toBe(200);
    await strict[Symbol.asyncDispose]();
  });

  it("asked about more often than the sign-in limit allows", async () => {
    const strict = await openOAuthServer({ rates: { failure: 0, address: 0, signIn: 9 } });
    const { code } = await shown(strict);
    const statuses = new Set<number>();
    for (let tries = 0; tries < 10; tries++) {
      statuses.add((await get(`${strict.url}/auth/codes/0000-000${tries}`)).status);
    }
    expect([...statuses]).toEqual([404, 429]);
    expect((await get(`${strict.url}/auth/codes/${code}`)).status).toBe(429);
    await strict[Symbol.asyncDispose]();
  });

  it.each([
    [
      "with another code's message",
      async (_: Shown, key: KeyPair) => signMessage(key, await messageFor(await shown(), key)),
    ],
    [
      "with a message for no code",
      async (_: Shown, key: KeyPair) =>
        signMessage(key, (await server.authority.challenge({ address: keyId(key) })).message),
    ],
    [
      "by a key without an account",
      async (here: Shown) => {
        const key = generateKey("secp256k1");
        return signMessage(key, await messageFor(here, key));
      },
    ],
    [
      "by another key than the message names",
      async (here: Shown, key: KeyPair) =>
        signMessage(await server.admit("secp256k1"), await messageFor(here, key)),
    ],
    [
      "with half a signature",
      async (here: Shown, key: KeyPair) => {
        const signed = signMessage(key, await messageFor(here, key));
        return { ...signed, signature: signed.signature.slice(0, 66) };
      },
    ],
    ["with nothing", async () => ({})],
    ["with another shape", async () => ({ message: ["x"], signature: { a: 1 }, publicKey: "no" })],
  ])("signed %s", async (_, make) => {
    const key = await server.admit("secp256k1");
    const here = await shown();
    const { status } = await post(`${server.url}/auth/codes/${here.code}`, await make(here, key));
    expect([400, 401, 403]).toContain(status);
    expect(await state(here)).toBe("waiting");
  });

  it("reached by another method or path", async () => {
    const { code } = await shown();
    const url = `${server.url}/auth/codes/${code}`;
    expect((await fetch(url, form({ message: "x" }))).status).toBe(400);
    expect((await fetch(url, { method: "DELETE" })).status).toBe(404);
    expect((await fetch(`${url}/challenge`)).status).toBe(404);
    expect((await post(`${url}/challenge`, { address: 7 })).status).toBe(400);
    expect((await post(`${url}/challenge`, { address: "nobody" })).status).toBe(400);
    expect((await get(`${url}/more/of/it`)).status).toBe(404);
    expect((await get(`${server.url}/auth/codes/%E0%A4%A`)).status).toBe(404);
    expect((await get(`${server.url}/auth/codes/${"A".repeat(5000)}`)).status).toBe(404);
  });
});

it("a sign-in page without a signature does not go on", async () => {
  const { browser, url } = await shown();
  const csrf = await formToken(await browser.fetch(url));
  const answer = await browser.fetch(url, form({ csrf, message: "", signature: "" }));
  expect([answer.status, await answer.text()]).toEqual([
    403,
    expect.stringContaining("has not been signed yet"),
  ]);
});

it("codes leave nothing in the log", () => {
  expect(server.logged).toEqual([]);
});
