import { generateKey, KEY_KINDS, keyId } from "@formation-mcp/auth/keys";
import { describe, expect, it } from "vitest";
import { AUDIENCE, ISSUER, signed, world } from "./support/world.ts";

describe.each(KEY_KINDS)("with a %s key", (kind) => {
  it("the first key of a fresh server becomes admin, signs in, and its tokens say who it is", async () => {
    const { server, clock } = await world();
    const authority = await server();
    const key = generateKey(kind);
    const bootstrap = (await authority.bootstrapToken()) ?? "";
    const first = await authority.bootstrap(bootstrap, await signed(authority, key));
    expect(first).toMatchObject({ token_type: "Bearer", expires_in: 900, owner: keyId(key) });

    const pair = await authority.signIn(await signed(authority, key));
    const who = await authority.authenticate(pair.access_token);
    expect(who.principal.owner).toBe(keyId(key));
    expect(who.principal.scopes.has("admin")).toBe(true);
    expect(who.principal.local).toBe(false);
    expect(who).toMatchObject({ clientId: "formation", keyId: keyId(key) });

    clock.time += 1000;
    const renewed = await authority.refresh(pair.refresh_token ?? "");
    expect((await authority.authenticate(renewed.access_token)).principal.owner).toBe(keyId(key));
    const { version, keys } = await authority.signingKeys();
    expect(version).toBe(1);
    expect(keys).toHaveLength(1);
    expect(JSON.stringify(await authority.jwks())).not.toContain('"d"');
    expect(authority).toMatchObject({ issuer: ISSUER, audience: AUDIENCE });
    await authority.ready();
  });
});
