// @module-tag chromium

// The pages in a real browser: with a wallet, with a code, on a phone, by keyboard; nothing is loaded from
// elsewhere, nothing is said on the console, and axe has nothing to say either.

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import axe, { type AxeResults } from "axe-core";
import {
  type BrowserContext,
  type BrowserContextOptions,
  type Browser as Chromium,
  chromium,
  type Page,
} from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { authorizeUrl, json, pkce, register, tokenRequest } from "./browser.ts";
import { close, listen, type OAuthServer, openOAuthServer } from "./server.ts";

let server: OAuthServer;
let chrome: Chromium;
let app: Server;
/** Where the app waits on this computer, and the pages of others that it shows. */
let callback: string;
let appPage = "";
beforeAll(async () => {
  server = await openOAuthServer();
  app = createServer((_request, response) => {
    response.setHeader("content-type", "text/html").end(appPage || "<!doctype html><title>app</title>back");
  });
  await listen(app, 0);
  callback = `http://127.0.0.1:${(app.address() as AddressInfo).port}/callback`;
  chrome = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
});
afterAll(async () => {
  await chrome?.close();
  await close(app);
  await server[Symbol.asyncDispose]();
});

interface Visitor extends AsyncDisposable {
  context: BrowserContext;
  page: Page;
  /** What the page complained of, and whom else it spoke to. */
  complaints: string[];
}

async function visit(
  options: BrowserContextOptions & { wallet?: KeyPair; refuses?: boolean } = {},
): Promise<Visitor> {
  const { wallet, refuses = false, ...rest } = options;
  const context = await chrome.newContext(rest);
  const complaints: string[] = [];
  if (wallet) {
    await context.exposeFunction("signHex", (hex: string) => {
      const message = Buffer.from(hex.slice(2), "hex").toString("utf8");
      return signMessage(wallet, message).signature;
    });
    await context.addInitScript(`window.ethereum = {
      request: async ({ method, params }) => {
        if (method === "eth_requestAccounts") return [${JSON.stringify(keyId(wallet).toLowerCase())}];
        if (${refuses}) throw Object.assign(new Error("User rejected the request."), { code: 4001 });
        if (method === "personal_sign") return window.signHex(params[0]);
        throw new Error("unknown method");
      },
    };`);
  }
  const page = await context.newPage();
  page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("request", (request) => {
    const { origin } = new URL(request.url());
    if (origin !== server.url && origin !== new URL(callback).origin)
      complaints.push(`request: ${request.url()}`);
  });
  return { context, page, complaints, [Symbol.asyncDispose]: () => context.close() };
}

/** A client of the app on this computer, and how it goes on with its code. */
async function client(scope = "vm:read vm:write", name = "Test app") {
  const clientId = await register(server.url, { client_name: name, redirect_uris: [callback] });
  const { verifier, challenge } = pkce();
  const url = authorizeUrl(server.url, clientId, {
    redirect_uri: callback,
    scope,
    code_challenge: challenge,
  });
  const redeem = async (at: string) => {
    const { body } = await tokenRequest(server.url, {
      grant_type: "authorization_code",
      client_id: clientId,
      code: new URL(at).searchParams.get("code") ?? "",
      redirect_uri: callback,
      code_verifier: verifier,
    });
    return server.authority.authenticate(body.access_token);
  };
  return { url: url.href, redeem };
}

/** What axe finds in a page. It is run from outside the page's policy, which stays as it is. */
async function violations(page: Page): Promise<string[]> {
  const found = await page.evaluate(
    `(() => { const module = undefined; ${axe.source}; return (this.axe ?? window.axe).run(document); })()`,
  );
  const results = found as AxeResults;
  expect(results.passes.length).toBeGreaterThan(5);
  return results.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
}

const fits = (page: Page) => page.evaluate("document.documentElement.scrollWidth <= window.innerWidth");

describe("a person with a wallet", () => {
  it("signs one message, says yes, and the app has a token", async () => {
    const key = await server.admit("secp256k1");
    await using person = await visit({ wallet: key });
    const { page, complaints } = person;
    const { url, redeem } = await client();
    await page.goto(url);
    expect(await page.title()).toBe("Sign in · Formation");
    await page.getByRole("button", { name: "Sign with wallet" }).click();
    await page.waitForURL(/\/auth\/consent\//);
    expect(await page.textContent("h1")).toBe("Allow Test app to use your account?");
    expect(await page.textContent("main")).toContain(keyId(key));
    await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(`${callback}?**`);
    const who = await redeem(page.url());
    expect(who).toMatchObject({ keyId: keyId(key), principal: { owner: keyId(key) } });
    expect([...who.principal.scopes]).toEqual(["vm:read", "vm:write"]);
    expect(complaints).toEqual([]);
  });

  it("may have one that announces itself instead (EIP-6963)", async () => {
    const key = await server.admit("secp256k1");
    await using person = await visit({ wallet: key });
    const { context, page } = person;
    await context.addInitScript(`{
      const provider = window.ethereum;
      delete window.ethereum;
      window.addEventListener("eip6963:requestProvider", () =>
        window.dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail: { info: {}, provider } })));
    }`);
    await page.goto((await client()).url);
    await page.getByRole("button", { name: "Sign with wallet" }).click();
    await page.waitForURL(/\/auth\/consent\//);
  });

  it("steps up: the page asks again, for more, without another sign-in", async () => {
    const key = await server.admit("secp256k1");
    await using person = await visit({ wallet: key });
    const { page } = person;
    await page.goto((await client("vm:read")).url);
    await page.getByRole("button", { name: "Sign with wallet" }).click();
    await page.waitForURL(/\/auth\/consent\//);
    await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(`${callback}?**`);
    const more = await client("vm:read pack:write");
    await page.goto(more.url);
    await page.waitForURL(/\/auth\/consent\//);
    expect(await page.textContent("main")).toContain("Build and ship");
    await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(`${callback}?**`);
    expect([...(await more.redeem(page.url())).principal.scopes].sort()).toEqual(["pack:write", "vm:read"]);
  });

  it("who says no sends the app back with that", async () => {
    await using person = await visit({ wallet: await server.admit("secp256k1") });
    const { page, complaints } = person;
    await page.goto((await client()).url);
    await page.getByRole("button", { name: "Sign with wallet" }).click();
    await page.waitForURL(/\/auth\/consent\//);
    await page.getByRole("button", { name: "Deny" }).click();
    await page.waitForURL(`${callback}?**`);
    expect(new URL(page.url()).searchParams.get("error")).toBe("access_denied");
    expect(complaints).toEqual([]);
  });

  it("who tells the wallet not to sign is told so, and can try again", async () => {
    await using person = await visit({ wallet: await server.admit("secp256k1"), refuses: true });
    const { page } = person;
    await page.goto((await client()).url);
    const button = page.getByRole("button", { name: "Sign with wallet" });
    await button.click();
    await page.getByRole("status").getByText("was told not to sign").waitFor();
    expect(await button.isEnabled()).toBe(true);
  });

  it("without an account is told what to do", async () => {
    const key = generateKey("secp256k1");
    await using person = await visit({ wallet: key });
    const { page } = person;
    await page.goto((await client()).url);
    await page.getByRole("button", { name: "Sign with wallet" }).click();
    await page.getByRole("alert").getByText("Ask an admin of this server to admit").waitFor();
  });
});

describe("a person with a key elsewhere", () => {
  it("signs the code there, and the page goes on by itself", async () => {
    const key = await server.admit("ed25519");
    await using person = await visit();
    const { page, complaints } = person;
    const { url, redeem } = await client();
    await page.goto(url);
    expect(await page.getByRole("button", { name: "Sign with wallet" }).isVisible()).toBe(false);
    const code = await page.locator(".code").textContent();
    expect(await page.textContent("pre")).toBe(`formation-mcp login ${code} --server ${server.url}`);
    const at = `${server.url}/auth/codes/${code}`;
    const asked = await fetch(`${at}/challenge`, json({ address: keyId(key) }));
    const { message } = (await asked.json()) as { message: string };
    await fetch(at, json(signMessage(key, message)));
    await page.waitForURL(/\/auth\/consent\//);
    await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(`${callback}?**`);
    expect((await redeem(page.url())).keyId).toBe(keyId(key));
    expect(complaints).toEqual([]);
  });

  it("needs no script for it", async () => {
    const key = await server.admit("ed25519");
    await using person = await visit({ javaScriptEnabled: false });
    const { page } = person;
    await page.goto((await client()).url);
    const at = `${server.url}/auth/codes/${await page.locator(".code").textContent()}`;
    const asked = await fetch(`${at}/challenge`, json({ address: keyId(key) }));
    const { message } = (await asked.json()) as { message: string };
    await fetch(at, json(signMessage(key, message)));
    await page.getByRole("button", { name: "I have signed: continue" }).click();
    await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(`${callback}?**`);
    expect(new URL(page.url()).searchParams.get("code")).toBeTruthy();
  });

  it("can go back without", async () => {
    await using person = await visit();
    const { page } = person;
    await page.goto((await client()).url);
    await page.getByRole("button", { name: "Cancel and go back" }).click();
    await page.waitForURL(`${callback}?**`);
    expect(new URL(page.url()).searchParams.get("error")).toBe("access_denied");
  });
});

describe("everybody can use the pages:", () => {
  const looks: [string, BrowserContextOptions][] = [
    ["light, wide", { colorScheme: "light", viewport: { width: 1280, height: 900 } }],
    ["dark, wide", { colorScheme: "dark", viewport: { width: 1280, height: 900 } }],
    ["light, on a phone", { colorScheme: "light", viewport: { width: 320, height: 640 }, hasTouch: true }],
    ["dark, on a phone", { colorScheme: "dark", viewport: { width: 320, height: 640 }, hasTouch: true }],
  ];
  it.each(looks)("axe finds nothing, and nothing is cut off: %s", async (_, options) => {
    await using person = await visit({ ...options, wallet: await server.admit("secp256k1") });
    const { page } = person;
    const name = "An app whose name is as long as names are ever going to be here, and then some more";
    await page.goto((await client("vm:read vm:write pack:write admin", name)).url);
    expect(await violations(page)).toEqual([]);
    expect(await fits(page)).toBe(true);
    await page.getByRole("button", { name: "Sign with wallet" }).click();
    await page.waitForURL(/\/auth\/consent\//);
    expect(await violations(page)).toEqual([]);
    expect(await fits(page)).toBe(true);
    await page.goto(`${server.url}/auth/login/nothing`);
    expect(await violations(page)).toEqual([]);
    expect(await fits(page)).toBe(true);
  });

  it("the keyboard alone is enough", async () => {
    await using person = await visit({ wallet: await server.admit("secp256k1") });
    const { page } = person;
    await page.goto((await client()).url);
    const focused = () => page.evaluate("document.activeElement.textContent");
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("Sign with wallet");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/auth\/consent\//);
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("Deny");
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("Allow");
    await page.keyboard.press("Enter");
    await page.waitForURL(`${callback}?**`);
  });
});

describe("another web page", () => {
  it("can't frame the pages", async () => {
    await using person = await visit();
    const { page, complaints } = person;
    const { url } = await client();
    appPage = `<!doctype html><iframe src="${url.replaceAll("&", "&amp;")}"></iframe>`;
    await page.goto(callback);
    await expect.poll(() => complaints.join()).toMatch(/frame-ancestors|X-Frame-Options/i);
    appPage = "";
    const framed = page.frames().find((frame) => frame !== page.mainFrame());
    expect(await framed?.evaluate("location.href")).toMatch(/^chrome-error:/);
  });

  it("can't send a form in a person's name", async () => {
    const key = await server.admit("secp256k1");
    await using person = await visit({ wallet: key });
    const { page } = person;
    await page.goto((await client()).url);
    await page.getByRole("button", { name: "Sign with wallet" }).click();
    await page.waitForURL(/\/auth\/consent\//);
    const consent = page.url();
    const csrf = await page.locator("input[name=csrf]").first().inputValue();
    // Even one that knows the token and the address: it comes from elsewhere (here: another port is the same
    // site).
    appPage = `<!doctype html><form method="post" action="${consent}"><input name="csrf" value="${csrf}">
      <button name="decision" value="allow">Win a prize</button></form>`;
    await page.goto(callback);
    appPage = "";
    await page.getByRole("button", { name: "Win a prize" }).click();
    await page.waitForURL(consent);
    expect(await page.textContent("main")).toContain("not sent from its own page");
  });

  it("can't run a script in the pages by its name", async () => {
    await using person = await visit();
    const { page, complaints } = person;
    const name = `<img src=x onerror="window.owned=1"><script>window.owned=1</script>"'&#60;`;
    await page.goto((await client("vm:read", name)).url);
    expect(await page.evaluate("window.owned")).toBeUndefined();
    expect(await page.textContent("main")).toContain("<img src=x onerror=");
    expect(complaints).toEqual([]);
  });
});

it("browsers leave nothing in the log", () => {
  expect(server.logged).toEqual([]);
});
