import type { Authority } from "@formation-mcp/auth/authority";
import { jwkThumbprint, type PublicJwk } from "@formation-mcp/auth/keys";
import { LIMITS } from "@formation-mcp/contract";
import { compactVerify, createLocalJWKSet, decodeProtectedHeader, importJWK, type JWK } from "jose";
import { describe, expect, it } from "vitest";
import { DAY, MINUTE, outcome, signed, world } from "./support/world.ts";

const kidsOf = async (authority: Authority) => ((await authority.jwks()).keys as JWK[]).map(({ kid }) => kid);

describe("signing keys", () => {
  it("are published as RFC 7517 has it, without their private halves, and verify what is signed", async () => {
    const { founded } = await world();
    const { authority, admin } = await founded();
    const jwks = (await authority.jwks()) as { keys: JWK[] };
    expect(jwks.keys).toHaveLength(1);
    const [key] = jwks.keys as [JWK];
    expect(Object.keys(key).sort()).toEqual(["alg", "crv", "kid", "kty", "use", "x"]);
    expect(key).toMatchObject({ kty: "OKP", crv: "Ed25519", alg: "EdDSA", use: "sig" });
    expect(key.kid).toBe(jwkThumbprint(key as PublicJwk));
    const { access_token } = await authority.signIn(await signed(authority, admin));
    await compactVerify(access_token, createLocalJWKSet(jwks));
    expect(decodeProtectedHeader(access_token)).toEqual({ alg: "EdDSA", typ: "at+jwt", kid: key.kid });
  });

  it("are one, however many servers start at once", async () => {
    const { server } = await world();
    const servers = await Promise.all(Array.from({ length: 8 }, () => server()));
    const kids = await Promise.all(servers.map(kidsOf));
    expect(new Set(kids.flat()).size).toBe(1);
    const private_ = await Promise.all(servers.map((authority) => authority.signingKeys()));
    expect(new Set(private_.map(({ version }) => version))).toEqual(new Set([1]));
  });

  it("rotate: the new one signs at once, the old one verifies until what it signed is over", async () => {
    const { founded, server, clock } = await world();
    const { authority, admin } = await founded();
    const other = await server();
    const [old] = await kidsOf(other);
    const before = await authority.signIn(await signed(authority, admin));
    await authority.rotate();
    expect((await authority.signingKeys()).version).toBe(2);
    const after = await authority.signIn(await signed(authority, admin));
    const { kid } = decodeProtectedHeader(after.access_token);
    expect(kid).not.toBe(old);
    expect(await kidsOf(authority)).toEqual([kid, old]);
    // The other server has not heard of the new key yet, and takes its tokens all the same.
    expect(await outcome(other.authenticate(after.access_token))).toBe("ok");
    expect(await outcome(other.authenticate(before.access_token))).toBe("ok");
    // It may go on signing with the old one for a minute: those tokens live as long as any.
    clock.time += MINUTE;
    const late = await other.signIn(await signed(other, admin));
    clock.time += LIMITS.accessTokenMs - 1000;
    expect(await outcome(authority.authenticate(late.access_token))).toBe("ok");
    clock.time += 10 * MINUTE;
    expect(await kidsOf(authority)).toEqual([kid]);
    expect(await kidsOf(other)).toEqual([kid]);
  });

  it("rotate by themselves after thirty days, once, whichever server notices", async () => {
    const { server, clock } = await world();
    const servers = await Promise.all([server(), server(), server()]);
    await Promise.all(servers.map(kidsOf));
    clock.time += 30 * DAY;
    const kids = await Promise.all(servers.map(kidsOf));
    for (const [newest] of kids) expect(newest).toBe(kids[0]?.[0]);
    for (const authority of servers) expect((await authority.signingKeys()).version).toBe(2);
  });

  it("that servers rotate at once are one or two more, and all servers agree", async () => {
    const { server, clock } = await world();
    const servers = await Promise.all([server(), server(), server(), server()]);
    await Promise.all(servers.map(kidsOf));
    await Promise.all(servers.map((authority) => authority.rotate()));
    clock.time += MINUTE;
    const versions = await Promise.all(
      servers.map(async (authority) => (await authority.signingKeys()).version),
    );
    expect(new Set(versions).size).toBe(1);
    expect(versions[0]).toBeGreaterThan(1);
  });

  it("whose time is over are removed from the database at the next rotation", async () => {
    const { server, clock, documents } = await world();
    const authority = await server();
    for (let round = 0; round < 4; round++) {
      await authority.rotate();
      clock.time += 20 * MINUTE;
    }
    expect((await documents.list({ kind: "signing-key", limit: 50 })).items.length).toBeLessThanOrEqual(2);
  });

  it("for the OAuth server have their private halves, newest first, and sign what is taken here", async () => {
    const { server } = await world();
    const authority = await server();
    await authority.ready();
    await authority.rotate();
    const { version, keys } = (await authority.signingKeys()) as { version: number; keys: JWK[] };
    expect(version).toBe(2);
    expect(keys.map(({ kid }) => kid)).toEqual(await kidsOf(authority));
    for (const key of keys) await importJWK(key, "EdDSA");
    expect(keys[0]).toHaveProperty("d");
  });
});

describe("in the database", () => {
  it("a signing key is sealed", async () => {
    const { server, documents } = await world();
    const authority = await server();
    const [key] = (await authority.signingKeys()).keys as [JWK];
    const { items } = await documents.list({ kind: "signing-key", limit: 10 });
    expect(JSON.stringify(items)).toContain(key.kid);
    expect(JSON.stringify(items)).not.toContain(key.d);
  });

  it("it does not open with another master key: the server is not ready, and says what to do", async () => {
    const { founded, server } = await world();
    const { authority, admin } = await founded();
    const { access_token } = await authority.signIn(await signed(authority, admin));
    const wrong = await server({ masterKey: new Uint8Array(32).fill(8) });
    await expect(wrong.ready()).rejects.toMatchObject({
      code: "unavailable",
      details: { remedy: expect.stringContaining("master key") },
    });
    expect(await outcome(wrong.authenticate(access_token))).toBe("unavailable");
    expect(await outcome(authority.ready())).toBe("ok");
  });

  it("who can write it but has no master key plants no key: neither a new one nor another's in an old one's place", async () => {
    const { founded, server, documents } = await world();
    const { authority, admin } = await founded();
    await authority.rotate();
    const { items } = await documents.list<Record<string, unknown>>({ kind: "signing-key", limit: 10 });
    const [second, first] = items;
    await documents.put({
      kind: "signing-key",
      id: "2",
      alias: second?.alias ?? null,
      doc: { ...second?.doc, sealed: first?.doc["sealed"] },
    });
    expect(await outcome((await server()).ready())).toBe("unavailable");
    const pair = await authority.signIn(await signed(authority, admin));
    expect(await outcome((await server()).authenticate(pair.access_token))).toBe("unavailable");
  });
});

it("a server whose signing key vanished is not ready", async () => {
  const { server, documents } = await world();
  const authority = await server();
  await authority.ready();
  await documents.remove("signing-key", "1");
  expect(await outcome(authority.ready())).toBe("unavailable");
});
