// Agents, which authenticate with their key: by the SDK's private_key_jwt provider, or by a signed challenge
// without a JWT.

import { randomUUID } from "node:crypto";
import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { auth, PrivateKeyJwtProvider } from "@modelcontextprotocol/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tokenRequest } from "./browser.ts";
import { type OAuthServer, openOAuthServer, proofOf } from "./server.ts";

let server: OAuthServer;
beforeAll(async () => {
  server = await openOAuthServer();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

const GRANT = "urn:formation:grant-type:signed-challenge";
const ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** An Ed25519 private key as the SDK wants it. */
function pem(key: KeyPair): string {
  const prefix = Buffer.from("302e020100300506032b657004220420", "hex");
  const body = Buffer.concat([prefix, Buffer.from(key.revealPrivate(), "hex")]).toString("base64");
  return `-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----\n`;
}

function assertion(
  key: KeyPair,
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const id = keyId(key);
  const body = { iss: id, sub: id, aud: server.url, iat: now, exp: now + 60, jti: randomUUID(), ...claims };
  const input = `${part({ alg: "EdDSA", ...header })}.${part(body)}`;
  return `${input}.${Buffer.from(key.sign(Buffer.from(input))).toString("base64url")}`;
}

const withAssertion = (client_assertion: string, more: Record<string, string> = {}) =>
  tokenRequest(server.url, {
    grant_type: "client_credentials",
    client_assertion_type: ASSERTION,
    client_assertion,
    ...more,
  });

async function signedChallenge(key: KeyPair): Promise<Record<string, string>> {
  const { message } = await server.authority.challenge({ address: keyId(key) });
  const { signature } = signMessage(key, message);
  const jwk = key.kind === "ed25519" ? { public_jwk: JSON.stringify(key.publicJwk()) } : {};
  return { grant_type: GRANT, message, signature, ...jwk };
}

describe("client_credentials with private_key_jwt", () => {
  it("works with the SDK's PrivateKeyJwtProvider and nothing else", async () => {
    const key = await server.admit("ed25519");
    const provider = new PrivateKeyJwtProvider({
      clientId: keyId(key),
      // Of Ed25519 the SDK takes PEM as bytes, not as text.
      privateKey: new TextEncoder().encode(pem(key)),
      algorithm: "EdDSA",
      expectedIssuer: server.url,
    });
    expect(await auth(provider, { serverUrl: server.audience, scope: "vm:read vm:write" })).toBe(
      "AUTHORIZED",
    );
    const who = await server.authority.authenticate(provider.tokens()?.access_token ?? "");
    expect(who).toMatchObject({ clientId: keyId(key), keyId: keyId(key), principal: { owner: keyId(key) } });
    expect([...who.principal.scopes]).toEqual(["vm:read", "vm:write"]);
  });

  it("acts for the account that the key belongs to, with its scopes and no more", async () => {
    const owner = await server.admit("secp256k1", ["vm:read", "pack:read"]);
    const key = generateKey("ed25519");
    await server.authority.addKey(keyId(owner), await proofOf(server.authority, key));
    const { body } = await withAssertion(assertion(key), { scope: "vm:read vm:write admin" });
    expect(body.scope).toBe("vm:read");
    const who = await server.authority.authenticate(body.access_token);
    expect(who.principal.owner).toBe(keyId(owner));
    expect((await withAssertion(assertion(key))).body.scope).toBe("pack:read vm:read");
    expect(await withAssertion(assertion(key), { scope: "admin" })).toMatchObject({ status: 400 });
  });

  it("takes an assertion once, at whichever process", async () => {
    const key = await server.admit("ed25519");
    const twin = await server.twin();
    const one = assertion(key);
    const fields = {
      grant_type: "client_credentials",
      client_assertion_type: ASSERTION,
      client_assertion: one,
    };
    const answers = await Promise.all(
      [server.url, twin.url, server.url].map((url) => tokenRequest(url, fields)),
    );
    await twin.close();
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 401, 401]);
  });

  it("ends with the key", async () => {
    const key = await server.admit("ed25519");
    const { body } = await withAssertion(assertion(key));
    const fellow = generateKey("secp256k1");
    await server.authority.addKey(keyId(key), await proofOf(server.authority, fellow));
    await server.authority.removeKey(keyId(key), keyId(key));
    await server.restart();
    await expect(server.authority.authenticate(body.access_token)).rejects.toMatchObject({
      code: "unauthenticated",
    });
    expect((await withAssertion(assertion(key))).status).toBe(401);
  });

  it.each([
    ["another key's signature", () => assertion(generateKey("ed25519"), { iss: "X", sub: "X" })],
    ["an expired one", (key: KeyPair) => assertion(key, { exp: Math.floor(Date.now() / 1000) - 120 })],
    ["one good for a day", (key: KeyPair) => assertion(key, { exp: Math.floor(Date.now() / 1000) + 86_400 })],
    ["one that never expires", (key: KeyPair) => assertion(key, { exp: undefined })],
    ["one without an id", (key: KeyPair) => assertion(key, { jti: undefined })],
    ["one for another server", (key: KeyPair) => assertion(key, { aud: "https://other.example" })],
    ["one by another issuer", (key: KeyPair) => assertion(key, { iss: "https://other.example" })],
    [
      "alg none",
      (key: KeyPair) => `${assertion(key, {}, { alg: "none" }).split(".").slice(0, 2).join(".")}.`,
    ],
    ["alg HS256", (key: KeyPair) => assertion(key, {}, { alg: "HS256" })],
    ["an exp that is no number", (key: KeyPair) => assertion(key, { exp: "tomorrow" })],
    [
      "an exp with a fraction",
      (key: KeyPair) => assertion(key, { exp: Math.floor(Date.now() / 1000) + 60.5 }),
    ],
    ["garbage", () => "x.y.z"],
  ])("refuses %s", async (_, make) => {
    const key = await server.admit("ed25519");
    const given = make(key).replaceAll("X", keyId(key));
    const { status, body } = await withAssertion(given);
    expect([400, 401]).toContain(status);
    expect(body.access_token).toBeUndefined();
  });
});

describe("the signed challenge", () => {
  it.each(["secp256k1", "ed25519"] as const)("gives a token to a key of kind %s", async (kind) => {
    const key = await server.admit(kind);
    const { status, body } = await tokenRequest(server.url, {
      ...(await signedChallenge(key)),
      scope: "vm:read",
    });
    expect([status, body.scope, body.token_type]).toEqual([200, "vm:read", "Bearer"]);
    const who = await server.authority.authenticate(body.access_token);
    expect(who).toMatchObject({ keyId: keyId(key), clientId: "formation", principal: { owner: keyId(key) } });
    expect(body.refresh_token).toBeUndefined();
  });

  it("gives all that the account has if nothing is asked for, and nothing that it does not have", async () => {
    const key = await server.admit("secp256k1", ["vm:read", "operation:read"]);
    expect((await tokenRequest(server.url, await signedChallenge(key))).body.scope).toBe(
      "vm:read operation:read",
    );
    const fields = { ...(await signedChallenge(key)), scope: "admin" };
    expect(await tokenRequest(server.url, fields)).toMatchObject({
      status: 400,
      body: { error: "invalid_scope" },
    });
  });

  it("is good once", async () => {
    const key = await server.admit("secp256k1");
    const fields = await signedChallenge(key);
    expect((await tokenRequest(server.url, fields)).status).toBe(200);
    expect(await tokenRequest(server.url, fields)).toMatchObject({
      status: 400,
      body: { error: "invalid_grant" },
    });
  });

  it.each([
    ["a stranger's key", async () => signedChallenge(generateKey("secp256k1"))],
    ["no message", async (key: KeyPair) => ({ ...(await signedChallenge(key)), message: "" })],
    [
      "a changed message",
      async (key: KeyPair) => {
        const fields = await signedChallenge(key);
        return { ...fields, message: `${fields["message"]} ` };
      },
    ],
    [
      "another resource",
      async (key: KeyPair) => ({ ...(await signedChallenge(key)), resource: "https://x.example" }),
    ],
    [
      "a public key that is no JSON",
      async (key: KeyPair) => ({ ...(await signedChallenge(key)), public_jwk: "{" }),
    ],
    [
      "a client of its own choice",
      async (key: KeyPair) => ({ ...(await signedChallenge(key)), client_id: "other" }),
    ],
  ])("refuses %s", async (_, make) => {
    const key = await server.admit("secp256k1");
    const { status, body } = await tokenRequest(server.url, await make(key));
    expect([400, 401]).toContain(status);
    expect(body.access_token).toBeUndefined();
  });
});

it("which keys have an account is told to nobody who asks in their name", async () => {
  const known = keyId(await server.admit("ed25519"));
  const unknown = keyId(generateKey("ed25519"));
  const forged = (id: string) => assertion(generateKey("ed25519"), { iss: id, sub: id });
  const asks: ((id: string) => Promise<unknown>)[] = [
    async (id) => {
      const query = new URLSearchParams({
        client_id: id,
        redirect_uri: "https://app.example/back",
        response_type: "code",
        code_challenge: "x".repeat(43),
        code_challenge_method: "S256",
      });
      const asked = await fetch(`${server.url}/oauth/authorize?${query}`, { redirect: "manual" });
      return [asked.status, asked.headers.get("location"), await asked.text()];
    },
    (id) => withAssertion(forged(id)),
    ...["client_credentials", "authorization_code", "refresh_token", GRANT].map(
      (grant_type) => (id: string) => tokenRequest(server.url, { grant_type, client_id: id }),
    ),
  ];
  for (const ask of asks) expect(await ask(known), String(ask)).toEqual(await ask(unknown));
});

it("agents leave nothing in the log", () => {
  expect(server.logged).toEqual([]);
});
