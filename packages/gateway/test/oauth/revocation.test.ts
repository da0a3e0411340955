// Revocation of a token, a grant, a key, an account.

import { generateKey, keyId, signMessage } from "@formation-mcp/auth/keys";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  authorize,
  authorizeUrl,
  Browser,
  form,
  obtainTokens,
  pkce,
  REDIRECT,
  refreshRequest,
  register,
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

describe("revoking", () => {
  const revoke = (fields: Record<string, string>) => fetch(`${server.url}/oauth/revoke`, form(fields));

  it("a refresh token ends its grant (RFC 7009)", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key);
    const answer = await revoke({ client_id: clientId, token: tokens.refresh_token ?? "" });
    expect(answer.status).toBe(200);
    expect(server.audited).toContainEqual({
      action: "POST /oauth/revoke (grant ended)",
      outcome: "ok",
      owner: keyId(key),
      target: clientId,
    });
    expect((await refresh(clientId, tokens.refresh_token)).status).toBe(400);
    expect(await openTwinAuthority(tokens.access_token)).toBe("unauthenticated");
  });

  it("an access token ends it at once", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key);
    expect((await revoke({ client_id: clientId, token: tokens.access_token })).status).toBe(200);
    expect(server.audited).toContainEqual({
      action: "POST /oauth/revoke",
      outcome: "ok",
      owner: keyId(key),
      target: null,
    });
    expect(await openTwinAuthority(tokens.access_token)).toBe("unauthenticated");
  });

  it("another client's token changes nothing and tells nothing", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId } = await obtainTokens(server.url, key);
    const stranger = await register(server.url);
    const answer = await revoke({ client_id: stranger, token: tokens.refresh_token ?? "" });
    expect(answer.status).toBe(200);
    expect((await refresh(clientId, tokens.refresh_token)).status).toBe(200);
  });

  it("an invalid token counts as revoked", async () => {
    const clientId = await register(server.url);
    for (const token of ["nonsense", "a.b.c", "eyJhbGciOiJub25lIn0.e30."]) {
      expect((await revoke({ client_id: clientId, token })).status).toBe(200);
    }
  });

  it("a key ends its sign-ins: tokens, renewal and the browser's session", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId, browser } = await obtainTokens(server.url, key);
    await server.authority.revokeKey(keyId(key), keyId(key));
    expect((await refresh(clientId, tokens.refresh_token)).status).toBe(400);
    expect(await openTwinAuthority(tokens.access_token)).toBe("unauthenticated");
    const again = await browser.follow(authorizeUrl(server.url, clientId));
    expect(again.url.pathname).toMatch(/^\/auth\/login\//);
    // The key itself is still the account's: who has it can sign in again, in the same second.
    const fresh = await obtainTokens(server.url, key, { browser, clientId });
    expect((await server.authority.authenticate(fresh.tokens.access_token)).principal.owner).toBe(keyId(key));
  });

  it("an owner ends everything of the account", async () => {
    const key = await server.admit("secp256k1");
    const { tokens, clientId, browser } = await obtainTokens(server.url, key);
    await server.authority.revokeOwner(keyId(key));
    expect((await refresh(clientId, tokens.refresh_token)).status).toBe(400);
    const again = await browser.follow(authorizeUrl(server.url, clientId));
    expect(again.url.pathname).toMatch(/^\/auth\/login\//);
  });

  it("a revocation also ends tokens that are being made at that moment", async () => {
    let armed = false;
    const racing = await openOAuthServer({
      wrap: (authority) => ({
        ...authority,
        account: async (owner) => {
          const account = await authority.account(owner);
          if (armed) {
            armed = false;
            await authority.revokeOwner(owner);
          }
          return account;
        },
      }),
    });
    const key = await racing.admit("secp256k1");
    const clientId = await register(racing.url);
    const { verifier, challenge } = pkce();
    const away = await authorize(
      new Browser(),
      authorizeUrl(racing.url, clientId, { code_challenge: challenge }),
      key,
    );
    armed = true;
    const { body } = await tokenRequest(racing.url, {
      grant_type: "authorization_code",
      client_id: clientId,
      code: away.searchParams.get("code") ?? "",
      redirect_uri: REDIRECT,
      code_verifier: verifier,
    });
    expect(armed).toBe(false);
    await racing.restart();
    const end = await racing.authority
      .authenticate(String(body.access_token))
      .catch((error: { code: string }) => error.code);
    expect(end).toBe("unauthenticated");
    await racing[Symbol.asyncDispose]();
  });

  it("a key removed from its account ends what it began, and nothing of the account's other keys", async () => {
    const [first, second] = [await server.admit("secp256k1"), await server.admit("secp256k1", [])];
    const owner = keyId(first);
    const third = generateKey("secp256k1");
    const { message } = await server.authority.challenge({ address: keyId(third) });
    await server.authority.addKey(owner, signMessage(third, message));
    const mine = await obtainTokens(server.url, first);
    const theirs = await obtainTokens(server.url, third);
    expect((await server.authority.authenticate(theirs.tokens.access_token)).principal.owner).toBe(owner);
    await server.authority.removeKey(owner, keyId(third));
    expect((await refresh(theirs.clientId, theirs.tokens.refresh_token)).status).toBe(400);
    expect((await refresh(mine.clientId, mine.tokens.refresh_token)).status).toBe(200);
    expect(keyId(second)).not.toBe(owner);
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
