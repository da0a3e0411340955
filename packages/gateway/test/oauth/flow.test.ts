import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  authorize,
  authorizeUrl,
  Browser,
  obtainTokens,
  pkce,
  REDIRECT,
  register,
  tokenRequest,
} from "./browser.ts";
import { idOf, type OAuthServer, openOAuthServer } from "./server.ts";

let server: OAuthServer;
beforeAll(async () => {
  server = await openOAuthServer();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe("the code flow", () => {
  it("gives a token that the authority takes: owner, scopes, audience, client and key are right", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key, { scope: "vm:read vm:write" });
    expect(tokens).toMatchObject({ token_type: "Bearer", expires_in: 900, scope: "vm:read vm:write" });
    const who = await server.authority.authenticate(tokens.access_token);
    expect(who.principal).toMatchObject({ owner: idOf(key), local: false });
    expect([...who.principal.scopes]).toEqual(["vm:read", "vm:write"]);
    expect(who).toMatchObject({ clientId, keyId: idOf(key) });
    expect(server.logged).toEqual([]);
  });
});
