// Other pages, other browsers and other signatures have no effect on a person's sign-in.

import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { authorizeUrl, Browser, form, formToken, json, obtainTokens, register, signInAt } from "./browser.ts";
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

describe("a form counts only from its own page and browser", () => {
  it.each([
    ["another origin", { origin: "https://evil.example" }],
    ["an origin that hides", { origin: "null" }],
    ["another port of this host", { origin: "http://127.0.0.1:1" }],
    ["another site, by its mark", { "sec-fetch-site": "cross-site" }],
    ["a neighbour site, by its mark", { "sec-fetch-site": "same-site" }],
    ["another content type", { "content-type": "text/plain" }],
  ])("a form from %s is refused", async (_, headers) => {
    const { browser, consent, csrf } = await consentPage();
    const init = form({ csrf, decision: "allow" });
    const answer = await browser.fetch(consent.url, { ...init, headers: { ...init.headers, ...headers } });
    expect([answer.status, answer.headers.get("location")]).toEqual([403, null]);
  });

  it.each([
    ["no token", async () => ""],
    ["a made-up token", async () => "A".repeat(43)],
    ["the token of another sign-in", async () => (await loginPage()).csrf],
  ])("a form with %s is refused", async (_, token) => {
    const { browser, consent } = await consentPage();
    const answer = await browser.fetch(consent.url, form({ csrf: await token(), decision: "allow" }));
    expect([answer.status, answer.headers.get("location")]).toEqual([403, null]);
  });

  it("a form from another browser, or with another browser's cookies, is refused", async () => {
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

  it("a form counts once, even if it is sent twice at the same time", async () => {
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

  it("no one goes on without a signature", async () => {
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

  it("the signature of this sign-in's own message is taken", async () => {
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
  ])("%s is refused", async (_, change) => {
    const answer = await post(change);
    expect([answer.status, answer.headers.get("location")]).toEqual([403, null]);
  });

  it("the signature of this sign-in's own message is taken once", async () => {
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

it("after hostile forms the server still works, and its log is empty", async () => {
  const { tokens } = await obtainTokens(server.url, key);
  expect((await server.authority.authenticate(tokens.access_token)).principal.owner).toBe(keyId(key));
  expect(server.logged).toEqual([]);
});

it("refused forms and signatures are in the audit log", () => {
  expect(server.audited.filter(({ outcome }) => outcome === "forbidden").length).toBeGreaterThan(5);
});
