import type { Scope } from "@formation-mcp/auth";
import { createAuthority } from "@formation-mcp/auth/authority";
import { generateKey, KEY_KINDS, keyId, parseSignInMessage, signMessage } from "@formation-mcp/auth/keys";
import { describe, expect, it } from "vitest";
import {
  AUDIENCE,
  ISSUER,
  MASTER_KEY,
  MINUTE,
  outcome,
  SECOND,
  signed,
  told,
  world,
} from "./support/world.ts";

const READ: ReadonlySet<Scope> = new Set<Scope>(["vm:read", "pack:read"]);

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
    expect(who.principal.tokenId).toMatch(/^ses_/);
    expect(who).toMatchObject({ clientId: "formation", keyId: keyId(key) });

    clock.time += SECOND;
    const renewed = await authority.refresh(pair.refresh_token ?? "");
    expect((await authority.authenticate(renewed.access_token)).principal.owner).toBe(keyId(key));
    expect(authority).toMatchObject({ issuer: ISSUER, audience: AUDIENCE });
    await authority.ready();
  });

  it("a stranger is turned away where registration is closed, and has an account where it is open", async () => {
    const { founded, server } = await world();
    const { authority } = await founded();
    const key = generateKey(kind);
    expect(await outcome(authority.signIn(await signed(authority, key)))).toBe("forbidden");
    expect(await authority.account(keyId(key))).toBeNull();

    const open = await server({ openRegistration: true });
    const pair = await open.signIn(await signed(open, key));
    const who = await open.authenticate(pair.access_token);
    expect(who.principal.owner).toBe(keyId(key));
    expect(who.principal.scopes.has("admin")).toBe(false);
    expect(who.principal.scopes.has("vm:write")).toBe(true);
    expect(await outcome(authority.signIn(await signed(authority, key)))).toBe("ok");
  });

  it("a challenge is an EIP-4361 message for this key, this server and five minutes", async () => {
    const { founded, clock } = await world();
    const { authority } = await founded();
    const key = generateKey(kind);
    const challenge = await authority.challenge({
      address: keyId(key),
      statement: "Claude gets vm:read.",
      resources: ["https://vm.example.org/mcp"],
    });
    expect(parseSignInMessage(challenge.message)).toEqual({
      kind,
      domain: "vm.example.org",
      address: keyId(key),
      statement: "Claude gets vm:read.",
      uri: ISSUER,
      chainId: "1",
      nonce: challenge.nonce,
      issuedAt: new Date(clock.time).toISOString(),
      expirationTime: new Date(clock.time + 5 * MINUTE).toISOString(),
      resources: ["https://vm.example.org/mcp"],
    });
    expect(challenge.nonce).toMatch(/^[0-9a-f]{32}$/);
    expect(challenge.expires_at).toBe(clock.time + 5 * MINUTE);
  });
});

describe("a statement", () => {
  it("of a stranger's words cannot change what the message says", async () => {
    const { founded } = await world();
    const { authority, admin } = await founded();
    const statement = 'Evil "Corp"\n\nURI: https://evil.example\u202e\u0000 wants ünïcode';
    const { message } = await authority.challenge({ address: keyId(admin), statement });
    const fields = parseSignInMessage(message);
    expect(fields.uri).toBe(ISSUER);
    expect(fields.statement).toBe("Evil ?Corp???URI: https://evil.example?? wants ?n?code");
    expect((await authority.verify(signMessage(admin, message))).key.id).toBe(keyId(admin));
  });

  it("that is too long is cut", async () => {
    const { founded } = await world();
    const { authority, admin } = await founded();
    const { message } = await authority.challenge({ address: keyId(admin), statement: "x".repeat(100_000) });
    expect(message.length).toBeLessThan(2000);
  });
});

it.each(["", "0x", "0x12", `0x${"g".repeat(40)}`, "key:short", `key:${"=".repeat(43)}`, "x".repeat(10_000)])(
  "there is no challenge for %j",
  async (address) => {
    const { server } = await world();
    expect(await outcome((await server()).challenge({ address }))).toBe("invalid");
  },
);

describe("bootstrap", () => {
  it("works once: then the token is void, and there is no new one", async () => {
    const { server } = await world();
    const authority = await server();
    const token = (await authority.bootstrapToken()) ?? "";
    const other = (await authority.bootstrapToken()) ?? "";
    expect(token).not.toBe(other);
    const key = generateKey("ed25519");
    expect((await authority.bootstrap(token, await signed(authority, key))).scope).toContain("admin");
    expect(await authority.bootstrapToken()).toBeNull();
    for (const used of [token, other]) {
      expect(await outcome(authority.bootstrap(used, await signed(authority, generateKey("ed25519"))))).toBe(
        "unauthenticated",
      );
    }
    expect((await authority.accounts({ limit: 10 })).items).toHaveLength(1);
  });

  it("is refused with a wrong token, which costs the signer's challenge nothing", async () => {
    const { server } = await world();
    const authority = await server();
    const token = (await authority.bootstrapToken()) ?? "";
    const key = generateKey("secp256k1");
    const answer = await signed(authority, key);
    const flipped = token.slice(0, -2) + (token.endsWith("AA") ? "BB" : "AA");
    for (const bad of [
      "",
      "fmb_",
      flipped,
      `${token} `,
      token.slice(0, 20),
      "fmb_0000000000000000_".padEnd(64, "A"),
    ]) {
      expect(await outcome(authority.bootstrap(bad, answer))).toBe("unauthenticated");
    }
    expect((await authority.bootstrap(token, answer)).owner).toBe(keyId(key));
  });

  it("makes one admin, however many keys come at once to however many servers", async () => {
    const { server } = await world();
    const servers = await Promise.all([server(), server(), server()]);
    const attempts = await Promise.all(
      servers.flatMap((authority) =>
        [0, 1].map(async () => {
          const token = (await authority.bootstrapToken()) ?? "";
          return { authority, token, answer: await signed(authority, generateKey("ed25519")) };
        }),
      ),
    );
    const ends = await Promise.all(
      attempts.map(({ authority, token, answer }) => outcome(authority.bootstrap(token, answer))),
    );
    expect(ends.filter((end) => end === "ok")).toHaveLength(1);
    expect(ends.filter((end) => end === "unauthenticated")).toHaveLength(attempts.length - 1);
    const { items } = await (await server()).accounts({ limit: 10 });
    expect(items.filter(({ scopes }) => scopes.includes("admin"))).toHaveLength(1);
  });

  it("stays possible where strangers registered first, and raises one of them if it is its key", async () => {
    const { server } = await world();
    const authority = await server({ openRegistration: true });
    const key = generateKey("secp256k1");
    await authority.signIn(await signed(authority, generateKey("ed25519")));
    await authority.signIn(await signed(authority, key));
    const token = (await authority.bootstrapToken()) ?? "";
    expect((await authority.bootstrap(token, await signed(authority, key))).scope).toContain("admin");
    expect((await authority.account(keyId(key)))?.scopes).toContain("admin");
  });

  it("a server that died between the gate and the account lets the next one through after a minute", async () => {
    const { server, documents, clock } = await world();
    const authority = await server();
    await authority.bootstrapToken();
    const doc = { owner: keyId(generateKey("ed25519")), at: clock.time, confirmed: false };
    await documents.put({ kind: "bootstrap", id: "admin", doc }, 0);
    expect(await authority.bootstrapToken()).toBeNull();
    clock.time += MINUTE + 1;
    const token = (await authority.bootstrapToken()) ?? "";
    expect(await outcome(authority.bootstrap(token, await signed(authority, generateKey("ed25519"))))).toBe(
      "ok",
    );
    clock.time += 10 * MINUTE;
    expect(await authority.bootstrapToken()).toBeNull();
  });

  it("an admin whom an operator admits closes it too, for good", async () => {
    const { server, clock } = await world();
    const authority = await server();
    const token = (await authority.bootstrapToken()) ?? "";
    const key = generateKey("ed25519");
    await authority.admit(told(key), new Set<Scope>(["admin"]));
    expect(await authority.bootstrapToken()).toBeNull();
    expect(await outcome(authority.bootstrap(token, await signed(authority, key)))).toBe("unauthenticated");
    await authority.admit(told(generateKey("ed25519")), new Set<Scope>(["admin"]));
    await authority.admit({ id: keyId(key) }, READ);
    clock.time += 10 * MINUTE;
    expect(await authority.bootstrapToken()).toBeNull();
  });

  it("the last admin stays one, however two take it from each other", async () => {
    const { server } = await world();
    const authority = await server();
    const keys = [generateKey("ed25519"), generateKey("ed25519")];
    const admin = new Set<Scope>(["admin"]);
    const owners: string[] = [];
    for (const key of keys) owners.push((await authority.admit(told(key), admin)).owner);
    const took = await Promise.all(owners.map((owner) => outcome(authority.setScopes(owner, READ))));
    expect(took).toContain("conflict");
    const left = (await authority.accounts({ limit: 10 })).items.filter(({ scopes }) =>
      scopes.includes("admin"),
    );
    expect(left.length).toBeGreaterThan(0);
    for (const { owner } of left.slice(1)) await authority.setScopes(owner, READ);
    const [last] = left.map(({ owner }) => owner);
    expect(await outcome(authority.setScopes(last ?? "", READ))).toBe("conflict");
    expect(await outcome(authority.admit({ id: last ?? "" }, READ))).toBe("conflict");
    expect(await outcome(authority.setScopes(last ?? "", new Set<Scope>(["admin", "vm:read"])))).toBe("ok");
  });

  it("keeps no token in the database", async () => {
    const { server, documents } = await world();
    const token = (await (await server()).bootstrapToken()) ?? "";
    const secret = token.slice(-43);
    expect(token).toMatch(/^fmb_[0-9a-f]{16}_[\w-]{43}$/);
    const { items } = await documents.list({ kind: "bootstrap", limit: 10 });
    expect(items).toHaveLength(1);
    expect(JSON.stringify(items)).not.toContain(secret);
  });
});

describe("accounts", () => {
  it("an admitted key signs in with the scopes it was given, and a second key of the account is the same owner", async () => {
    const { founded } = await world();
    const { authority } = await founded();
    const [first, second] = [generateKey("ed25519"), generateKey("secp256k1")];
    expect(await authority.admit({ ...told(first), label: "laptop" }, READ)).toMatchObject({
      owner: keyId(first),
      scopes: ["pack:read", "vm:read"],
      keys: [{ id: keyId(first), kind: "ed25519", label: "laptop", revoked_at: null }],
    });
    await authority.addKey(keyId(first), await signed(authority, second));
    const pair = await authority.signIn(await signed(authority, second));
    expect(pair).toMatchObject({ owner: keyId(first), scope: "pack:read vm:read" });
    expect(await authority.accountOfKey(keyId(second))).toMatchObject({ owner: keyId(first) });
    expect(await authority.account(keyId(second))).toBeNull();
    expect(await authority.publicKeyOf(keyId(first))).toEqual(first.publicJwk());
    expect(await authority.publicKeyOf(keyId(second))).toBeNull();
  });

  it("a key belongs to one account", async () => {
    const { founded } = await world();
    const { authority, admin } = await founded();
    const key = generateKey("ed25519");
    await authority.admit(told(key), READ);
    expect(await outcome(authority.addKey(keyId(admin), await signed(authority, key)))).toBe("conflict");
    expect(await outcome(authority.addKey(keyId(key), await signed(authority, key)))).toBe("ok");
  });

  it("a key that is claimed for two accounts at once ends in one of them", async () => {
    const { founded, server } = await world();
    const { authority } = await founded();
    const other = await server();
    const [one, two] = [generateKey("ed25519"), generateKey("ed25519")];
    await authority.admit(told(one), READ);
    await authority.admit(told(two), READ);
    for (let round = 0; round < 10; round++) {
      const key = generateKey("secp256k1");
      const [here, there] = [await signed(authority, key), await signed(other, key)];
      const ends = await Promise.all([
        outcome(authority.addKey(keyId(one), here)),
        outcome(other.addKey(keyId(two), there)),
      ]);
      expect(ends.sort()).toEqual(["conflict", "ok"]);
      const holder = await authority.accountOfKey(keyId(key));
      expect([keyId(one), keyId(two)]).toContain(holder?.owner);
    }
  });

  it("many servers that open an account for one key at once open one", async () => {
    const { server } = await world();
    const servers = await Promise.all([0, 1, 2, 3].map(() => server({ openRegistration: true })));
    const key = generateKey("ed25519");
    const answers = await Promise.all(servers.map((authority) => signed(authority, key)));
    const pairs = await Promise.all(servers.map((authority, at) => authority.signIn(answers[at] as never)));
    for (const pair of pairs) expect(pair.owner).toBe(keyId(key));
    expect((await servers[0]?.accounts({ limit: 10 }))?.items).toHaveLength(1);
  });

  it("what a crash left half done is completed by the next who comes, or taken over after a minute", async () => {
    const { founded, documents, clock } = await world();
    const { authority, admin } = await founded();
    const key = generateKey("ed25519");
    const jwk = key.publicJwk();
    // Died between the claim and the account, while opening one.
    await documents.put({ kind: "key-of", id: keyId(key), doc: { owner: keyId(key), jwk } }, 0);
    expect(await authority.accountOfKey(keyId(key))).toBeNull();
    expect(await outcome(authority.addKey(keyId(admin), await signed(authority, key)))).toBe("conflict");
    expect((await authority.admit(told(key), READ)).owner).toBe(keyId(key));
    // Died while adding one to an account that never listed it.
    const second = generateKey("secp256k1");
    await documents.put({ kind: "key-of", id: keyId(second), doc: { owner: keyId(admin), jwk: null } }, 0);
    expect(await outcome(authority.signIn(await signed(authority, second)))).toBe("forbidden");
    expect(await outcome(authority.addKey(keyId(key), await signed(authority, second)))).toBe("conflict");
    clock.time += MINUTE + 1;
    expect((await authority.addKey(keyId(key), await signed(authority, second))).keys).toHaveLength(2);
    expect((await authority.accountOfKey(keyId(second)))?.owner).toBe(keyId(key));
  });

  it("a removed key signs in no more, not even as an account of its own; the last one stays", async () => {
    const { founded, server } = await world();
    const { authority } = await founded();
    const open = await server({ openRegistration: true });
    const [first, second] = [generateKey("ed25519"), generateKey("ed25519")];
    await authority.admit(told(first), READ);
    expect(await outcome(authority.removeKey(keyId(first), keyId(first)))).toBe("conflict");
    await authority.addKey(keyId(first), await signed(authority, second));
    expect((await authority.removeKey(keyId(first), keyId(first))).keys).toHaveLength(1);
    expect(await outcome(authority.removeKey(keyId(first), keyId(first)))).toBe("not_found");
    expect(await outcome(open.signIn(await signed(open, first)))).toBe("forbidden");
    expect(await authority.publicKeyOf(keyId(first))).toBeNull();
    expect((await open.signIn(await signed(open, second))).owner).toBe(keyId(first));
  });

  it("keys of the wrong shape are refused", async () => {
    const { founded } = await world();
    const { authority } = await founded();
    const [key, other] = [generateKey("ed25519"), generateKey("ed25519")];
    for (const bad of [
      {},
      { id: `${keyId(key)}x` },
      { id: "root" },
      { id: keyId(other), publicKey: key.publicJwk() },
      { publicKey: { kty: "RSA", n: "x", e: "AQAB" } },
      { publicKey: { ...key.publicJwk(), x: "AA" } },
      { publicKey: { kty: "OKP", crv: "Ed25519", x: `AQ${"A".repeat(41)}` } },
      { publicKey: { kty: "OKP", crv: "Ed25519", x: "A".repeat(43) } },
      { publicKey: { kty: "OKP", crv: "Ed25519", x: `${"_".repeat(42)}8` } },
      { ...told(key), label: "" },
      { ...told(key), label: "a\nb" },
      { ...told(key), label: "x".repeat(65) },
    ]) {
      expect(await outcome(authority.admit(bad, READ))).toBe("invalid");
    }
    expect(await outcome(authority.addKey("0xnobody", await signed(authority, key)))).toBe("not_found");
  });

  it("an Ed25519 key that was admitted by its thumbprint shows itself when it signs, and no other is taken for it", async () => {
    const { founded } = await world();
    const { authority } = await founded();
    const [key, other] = [generateKey("ed25519"), generateKey("ed25519")];
    await authority.admit({ id: keyId(key) }, READ);
    expect(await authority.publicKeyOf(keyId(key))).toBeNull();
    const lie = { ...(await signed(authority, key)), publicKey: other.publicJwk() };
    expect(await outcome(authority.signIn(lie))).toBe("unauthenticated");
    expect((await authority.signIn(await signed(authority, key))).owner).toBe(keyId(key));
    expect(await authority.publicKeyOf(keyId(key))).toMatchObject({ x: key.publicJwk().x });
  });

  it("are listed page by page, newest first", async () => {
    const { founded } = await world();
    const { authority, admin } = await founded();
    const keys = Array.from({ length: 5 }, () => generateKey("ed25519"));
    for (const key of keys) await authority.admit(told(key), READ);
    const first = await authority.accounts({ limit: 4 });
    const second = await authority.accounts({ limit: 4, cursor: first.cursor });
    expect([...first.items, ...second.items].map(({ owner }) => owner)).toEqual(
      [admin, ...keys].map(keyId).reverse(),
    );
    expect(second.cursor).toBeNull();
  });
});

describe("an authority is not made", () => {
  it.each([
    ["for an issuer with a path", { issuer: "https://vm.example.org/x" }],
    ["for an issuer with a slash at its end", { issuer: "https://vm.example.org/" }],
    ["for an issuer that is no URL", { issuer: "vm.example.org" }],
    ["with a short master key", { masterKey: new Uint8Array(31) }],
  ])("%s", async (_, wrong) => {
    const { documents } = await world();
    const options = { documents, issuer: ISSUER, audience: AUDIENCE, masterKey: MASTER_KEY };
    expect(() => createAuthority({ ...options, ...wrong })).toThrow(
      expect.objectContaining({ code: "invalid" }),
    );
  });
});
