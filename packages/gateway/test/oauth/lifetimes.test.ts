// Rate limits, cookies, and how long clients and grants are kept.

import { keyId, signMessage } from "@formation-mcp/auth/keys";
import { expect, it } from "vitest";
import { authorizeUrl, Browser, form, formToken, json, obtainTokens, REDIRECT, register } from "./browser.ts";
import { openOAuthServer } from "./server.ts";

it("a caller over its limit waits: for tokens a minute, for another registration an hour", async () => {
  const strict = await openOAuthServer({ rates: { signIn: 3, address: 0, failure: 0 } });
  const post = (path: string, init: RequestInit) => fetch(strict.url + path, init);
  const tokens: Response[] = [];
  for (let tries = 0; tries < 5; tries++) tokens.push(await post("/oauth/token", form({ grant_type: "x" })));
  expect(tokens.map(({ status }) => status)).toEqual([400, 400, 400, 429, 429]);
  expect(Number(tokens[4]?.headers.get("retry-after"))).toBeGreaterThan(0);
  await strict[Symbol.asyncDispose]();

  let now = Date.UTC(2026, 0, 1);
  const patient = await openOAuthServer({
    rates: { signIn: 3, address: 0, failure: 0 },
    clock: { now: () => now },
  });
  const made: number[] = [];
  for (let tries = 0; tries < 5; tries++) {
    now += 60_000;
    const answer = await fetch(`${patient.url}/oauth/register`, json({ redirect_uris: [REDIRECT] }));
    made.push(answer.status);
  }
  expect(made).toEqual([201, 201, 201, 429, 429]);
  await patient[Symbol.asyncDispose]();
});

it("over TLS the cookies are Secure, and the session's is of this host alone", async () => {
  const behind = await openOAuthServer({ issuer: "https://vm.example.org" });
  const [client, person] = [await register(behind.url), await behind.admit("secp256k1")];
  const url = authorizeUrl(behind.url, client, { resource: "https://vm.example.org/mcp" });
  const began = await fetch(url, { redirect: "manual" });
  for (const cookie of began.headers.getSetCookie()) {
    expect(cookie).toMatch(/^__Secure-formation-(interaction|resume)(\.sig)?=/);
    expect(cookie.toLowerCase()).toMatch(/; secure(;|$)/);
  }
  const browser = new Browser();
  const login = await browser.follow(url);
  const csrf = await formToken(login.answer);
  const init = json({ address: keyId(person) }, { "x-form-token": csrf, origin: "https://vm.example.org" });
  const { message } = (await (await browser.fetch(`${login.url}/challenge`, init)).json()) as {
    message: string;
  };
  const { signature } = signMessage(person, message);
  const sent = form({ csrf, message, signature });
  const signed = await browser.fetch(login.url, {
    ...sent,
    headers: { ...sent.headers, origin: "https://vm.example.org" },
  });
  const resume = new URL(signed.headers.get("location") ?? "");
  expect(resume.origin).toBe("https://vm.example.org");
  const consent = await browser.fetch(behind.url + resume.pathname);
  const session = consent.headers.getSetCookie().filter((cookie) => cookie.startsWith("__Host-formation"));
  expect(session).toHaveLength(2);
  for (const cookie of session) {
    for (const part of ["path=/", "secure", "httponly", "samesite=lax"]) {
      expect(cookie.toLowerCase().split("; ")).toContain(part);
    }
    expect(cookie.toLowerCase()).not.toContain("domain=");
  }
  await behind[Symbol.asyncDispose]();
});

it("an unused client is forgotten after a day, one that got a token after a year", async () => {
  const server = await openOAuthServer();
  const key = await server.admit("secp256k1");
  const day = 86_400_000;
  const left = async (clientId: string) => {
    const found = await server.store.documents.get("oidc:Client", clientId);
    return Math.round(((found?.expires_at ?? 0) - Date.now()) / day);
  };
  expect(await left(await register(server.url))).toBe(1);
  const { clientId } = await obtainTokens(server.url, key);
  await expect.poll(() => left(clientId)).toBe(365);
  await server[Symbol.asyncDispose]();
});
