import { type Bounds, SCOPES, type Scope } from "@formation-mcp/auth";
import type { Authenticated, Authority } from "@formation-mcp/auth/authority";
import { generateKey, keyId } from "@formation-mcp/auth/keys";
import { LIMITS } from "@formation-mcp/contract";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MINUTE, outcome, SECOND, signed, told, type World, world } from "./support/world.ts";

const ALL_BUT_ADMIN = new Set<Scope>(SCOPES.filter((scope) => scope !== "admin"));

interface Scene extends World {
  authority: Authority;
  owner: string;
  /** A fresh sign-in of an account with every scope but admin. */
  session(): Promise<{ by: Authenticated; access: string; refresh: string }>;
}

async function scene(atEnd?: (close: () => Promise<void>) => void): Promise<Scene> {
  const here = await world(atEnd);
  const { authority } = await here.founded();
  const key = generateKey("ed25519");
  await authority.admit(told(key), ALL_BUT_ADMIN);
  return {
    ...here,
    authority,
    owner: keyId(key),
    session: async () => {
      const pair = await authority.signIn(await signed(authority, key));
      const by = await authority.authenticate(pair.access_token);
      return { by, access: pair.access_token, refresh: pair.refresh_token ?? "" };
    },
  };
}

const names = fc.uniqueArray(fc.constantFrom("web", "db", "queue", "mail"), { minLength: 1 });
const pairs = fc.dictionary(fc.constantFrom("team", "stage"), fc.constantFrom("a", "b"), { minKeys: 1 });
const bounds: fc.Arbitrary<Bounds> = fc.record({ instances: names, metadata: pairs }, { requiredKeys: [] });
const request = fc.record(
  {
    scopes: fc.uniqueArray(fc.constantFrom(...SCOPES)).map((list) => new Set(list)),
    bounds,
    expiresInSeconds: fc.integer({ min: 1, max: 900 }),
  },
  { requiredKeys: [] },
);

/** Whether everything that the inner bounds let through, the outer ones let through as well. */
const isWithin = (inner: Bounds | undefined, outer: Bounds | undefined): boolean => {
  const named =
    !outer?.instances || inner?.instances?.every((name) => outer.instances?.includes(name)) === true;
  const tagged = Object.entries(outer?.metadata ?? {}).every(
    ([key, value]) => inner?.metadata?.[key] === value,
  );
  return named && tagged;
};

describe("a token made with another", () => {
  let s: Scene;
  let close: () => Promise<void>;
  beforeAll(async () => {
    s = await scene((end) => {
      close = end;
    });
  });
  afterAll(async () => {
    await close();
  });

  it("may do a part of what that one may, for no longer, down the whole line", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 4 }), async (requests) => {
        let { by } = await s.session();
        for (const wanted of requests) {
          const end = await s.authority.narrow(by, wanted).catch((error: { code: string }) => error);
          if ("code" in end) {
            // Only what was asked for beyond the parent is refused.
            expect(end.code).toBe("forbidden");
            const more = [...(wanted.scopes ?? [])].some((scope) => !by.principal.scopes.has(scope));
            const { instances, metadata } = by.principal.bounds ?? {};
            const apart =
              (instances && wanted.bounds?.instances?.every((name) => !instances.includes(name))) ||
              Object.entries(wanted.bounds?.metadata ?? {}).some(
                ([key, value]) => (metadata?.[key] ?? value) !== value,
              );
            expect(more || apart).toBe(true);
            return;
          }
          expect(end).not.toHaveProperty("refresh_token");
          const child = await s.authority.authenticate(end.access_token);
          expect([...by.principal.scopes]).toEqual(expect.arrayContaining([...child.principal.scopes]));
          if (wanted.scopes) expect(new Set(child.principal.scopes)).toEqual(wanted.scopes);
          expect(isWithin(child.principal.bounds, by.principal.bounds)).toBe(true);
          expect(isWithin(child.principal.bounds, wanted.bounds)).toBe(true);
          expect(child.expiresAt).toBeLessThanOrEqual(by.expiresAt);
          const asked = Math.floor(s.clock.time / 1000) + (wanted.expiresInSeconds ?? 900);
          expect(child.expiresAt).toBe(Math.min(asked, by.expiresAt));
          expect(child.principal.owner).toBe(by.principal.owner);
          by = child;
        }
      }),
      { numRuns: 150 },
    );
  });

  it("of an admin may have any scope, admin left out", async () => {
    const { authority, admin } = await (await world()).founded();
    const pair = await authority.signIn(await signed(authority, admin), {
      scopes: new Set<Scope>(["admin"]),
    });
    const by = await authority.authenticate(pair.access_token);
    const child = await authority.narrow(by, { scopes: new Set<Scope>(["vm:read"]) });
    expect(child.scope).toBe("vm:read");
    const reader = await authority.authenticate(child.access_token);
    expect(await outcome(authority.narrow(reader, { scopes: new Set<Scope>(["admin"]) }))).toBe("forbidden");
  });

  it.each<[string, object]>([
    ["a scope that does not exist", { scopes: new Set(["vm:destroy"]) }],
    ["no whole number of seconds", { expiresInSeconds: 1.5 }],
    ["no time at all", { expiresInSeconds: 0 }],
    ["a time that is over", { expiresInSeconds: -1 }],
    ["more than fifteen minutes", { expiresInSeconds: 901 }],
    ["no number", { expiresInSeconds: "60" }],
    ["bounds of no instance", { bounds: { instances: [] } }],
    ["bounds that are a list", { bounds: [] }],
    ["an unknown fence", { bounds: { nodes: ["n"] } }],
    ["too many names", { bounds: { instances: Array.from({ length: 65 }, (_, at) => `vm${at}`) } }],
    ["too long names", { bounds: { instances: ["x".repeat(300)] } }],
    [
      "more than fits into a token",
      { bounds: { instances: Array.from({ length: 64 }, (_, at) => `${at}`.padStart(200)) } },
    ],
    ["metadata of the prototype", { bounds: { metadata: JSON.parse('{"__proto__":"x"}') } }],
    ["metadata that is no text", { bounds: { metadata: { team: 1 } } }],
  ])("is refused with %s", async (_, wanted) => {
    const { by } = await s.session();
    expect(await outcome(s.authority.narrow(by, wanted))).toBe("invalid");
  });

  it("is made at most four deep", async () => {
    let { by } = await s.session();
    for (let depth = 0; depth < 4; depth++) {
      by = await s.authority.authenticate((await s.authority.narrow(by, {})).access_token);
    }
    expect(await outcome(s.authority.narrow(by, {}))).toBe("limit");
  });

  it("makes no API token, and neither does what is bound or comes from elsewhere", async () => {
    const { by } = await s.session();
    const child = await s.authority.authenticate((await s.authority.narrow(by, {})).access_token);
    expect(await outcome(s.authority.createApiToken(child, { name: "x" }))).toBe("forbidden");
    expect(
      await outcome(s.authority.createApiToken({ ...by, clientId: "https://claude.ai/x" }, { name: "x" })),
    ).toBe("forbidden");
    const { token } = await s.authority.createApiToken(by, { name: "ci" });
    const ci = await s.authority.authenticate(token);
    expect(await outcome(s.authority.createApiToken(ci, { name: "x" }))).toBe("forbidden");
  });
});

describe("a token's children", () => {
  /** A parent, its child and grandchild, and a child of another session. */
  const family = async (s: Scene) => {
    const { by, refresh, access } = await s.session();
    const child = await s.authority.narrow(by, {});
    const grandchild = await s.authority.narrow(await s.authority.authenticate(child.access_token), {});
    const sibling = await s.authority.narrow(by, {});
    const stranger = await s.authority.narrow((await s.session()).by, {});
    return { by, refresh, access, child, grandchild, sibling, stranger };
  };
  const takes = async ({ authority }: Scene, { access_token }: { access_token: string }) =>
    (await outcome(authority.authenticate(access_token))) === "ok";

  it("end with its session", async () => {
    const s = await scene();
    const f = await family(s);
    await s.authority.revokeToken(s.owner, f.by.principal.tokenId);
    s.clock.time += LIMITS.revocationMs;
    for (const token of [f.child, f.grandchild, f.sibling]) expect(await takes(s, token)).toBe(false);
    expect(await takes(s, f.stranger)).toBe(true);
  });

  it("end with it when its refresh token is stolen", async () => {
    const s = await scene();
    const f = await family(s);
    const next = await s.authority.refresh(f.refresh);
    await s.authority.refresh(next.refresh_token ?? "");
    expect(await outcome(s.authority.refresh(f.refresh))).toBe("unauthenticated");
    s.clock.time += LIMITS.revocationMs;
    for (const token of [f.child, f.grandchild, f.sibling]) expect(await takes(s, token)).toBe(false);
    expect(await takes(s, f.stranger)).toBe(true);
  });

  it("end one by one too: a child with its own children, and not its parent or its siblings", async () => {
    const s = await scene();
    const f = await family(s);
    const { tokenId } = (await s.authority.authenticate(f.child.access_token)).principal;
    expect(await s.authority.revokeToken(s.owner, tokenId)).toBe(true);
    s.clock.time += LIMITS.revocationMs;
    for (const token of [f.child, f.grandchild]) expect(await takes(s, token)).toBe(false);
    for (const token of [f.sibling, f.stranger, { access_token: f.access }]) {
      expect(await takes(s, token)).toBe(true);
    }
    expect(await outcome(s.authority.refresh(f.refresh))).toBe("ok");
  });

  it("end with the API token that they were made with", async () => {
    const s = await scene();
    const { by } = await s.session();
    const { token, record } = await s.authority.createApiToken(by, { name: "ci", expiresInSeconds: 60 });
    const ci = await s.authority.authenticate(token);
    const child = await s.authority.narrow(ci, {});
    expect(child.expires_in).toBe(60);
    expect(await takes(s, child)).toBe(true);
    await s.authority.revokeToken(s.owner, record.id);
    expect(await takes(s, child)).toBe(false);
    expect(await outcome(s.authority.narrow(ci, {}))).toBe("unauthenticated");
  });

  it("are not made once it has ended", async () => {
    const s = await scene();
    const { by } = await s.session();
    s.clock.time += 15 * MINUTE;
    expect(await outcome(s.authority.narrow(by, {}))).toBe("unauthenticated");
  });
});

describe("an API token", () => {
  it("is its owner, within its scopes and bounds, until its end", async () => {
    const s = await scene();
    const { by } = await s.session();
    const { token, record } = await s.authority.createApiToken(by, {
      name: "deploy from CI",
      scopes: new Set<Scope>(["vm:read", "vm:write"]),
      bounds: { instances: ["web"], metadata: { team: "a" } },
      expiresInSeconds: 3600,
    });
    expect(token).toMatch(/^fmt_[0-9a-f]{32}_[\w-]{43}$/);
    expect(record).toEqual({
      id: `tok_${token.slice(4, 36)}`,
      name: "deploy from CI",
      scopes: ["vm:read", "vm:write"],
      bounds: { instances: ["web"], metadata: { team: "a" } },
      created_at: s.clock.time,
      expires_at: s.clock.time + 3_600_000,
      last_used_at: null,
    });
    const who = await s.authority.authenticate(token);
    expect(who).toMatchObject({ principal: { tokenId: record.id }, clientId: "formation" });
    expect(who.principal).toMatchObject({ owner: s.owner, local: false, bounds: record.bounds });
    expect([...who.principal.scopes]).toEqual(["vm:read", "vm:write"]);
    s.clock.time += 3_600_000 - 1;
    expect(await outcome(s.authority.authenticate(token))).toBe("ok");
    s.clock.time += 1;
    expect(await outcome(s.authority.authenticate(token))).toBe("unauthenticated");
    expect(await s.authority.apiTokens(s.owner)).toEqual([]);
  });

  it("is not in the database, nor in the list", async () => {
    const s = await scene();
    const { token } = await s.authority.createApiToken((await s.session()).by, { name: "ci" });
    const { items } = await s.documents.list({ kind: "api-token", limit: 10 });
    for (const shown of [items, await s.authority.apiTokens(s.owner)]) {
      expect(shown).toHaveLength(1);
      expect(JSON.stringify(shown)).not.toContain(token.slice(-43));
      expect(JSON.stringify(await s.authority.apiTokens(s.owner))).not.toMatch(/hash/);
    }
  });

  it("with a wrong secret or another's is refused", async () => {
    const s = await scene();
    const { by } = await s.session();
    const one = (await s.authority.createApiToken(by, { name: "one" })).token;
    const two = (await s.authority.createApiToken(by, { name: "two" })).token;
    await s.authority.authenticate(one);
    for (const forged of [
      one.slice(0, 37) + two.slice(37),
      `${one.slice(0, -1)}${one.endsWith("A") ? "B" : "A"}`,
      one.slice(0, -1),
      `${one}A`,
      ` ${one}`,
      one.toUpperCase(),
      one.replace("fmt_", "fmt_tok_"),
      `fmt_${"0".repeat(32)}_${one.slice(-43)}`,
    ]) {
      expect(await outcome(s.authority.authenticate(forged))).toBe("unauthenticated");
    }
  });

  it("says when it was last used, to the minute", async () => {
    const s = await scene();
    const { token } = await s.authority.createApiToken((await s.session()).by, { name: "ci" });
    const used = async () => (await s.authority.apiTokens(s.owner))[0]?.last_used_at;
    const start = s.clock.time;
    await s.authority.authenticate(token);
    expect(await used()).toBe(start);
    for (let call = 0; call < 10; call++) {
      s.clock.time += 5 * SECOND;
      await s.authority.authenticate(token);
      expect(await used()).toBe(start);
    }
    s.clock.time += 10 * SECOND;
    await s.authority.authenticate(token);
    expect(await used()).toBe(start + MINUTE);
  });

  it("ends everywhere within five seconds, and by nobody else's hand", async () => {
    const s = await scene();
    const other = await s.server();
    const { token, record } = await s.authority.createApiToken((await s.session()).by, { name: "ci" });
    await other.authenticate(token);
    expect(await s.authority.revokeToken("0xnobody", record.id)).toBe(false);
    expect(await s.authority.revokeToken(s.owner, record.id)).toBe(true);
    expect(await s.authority.revokeToken(s.owner, record.id)).toBe(false);
    expect(await outcome(s.authority.authenticate(token))).toBe("unauthenticated");
    s.clock.time += LIMITS.revocationMs;
    expect(await outcome(other.authenticate(token))).toBe("unauthenticated");
  });

  it("ends with the key that made it, and when it is shown to be ended", async () => {
    const s = await scene();
    const { by } = await s.session();
    const first = await s.authority.createApiToken(by, { name: "first" });
    const second = await s.authority.createApiToken(by, { name: "second" });
    await s.authority.revokeBearer(first.token);
    expect(await outcome(s.authority.authenticate(first.token))).toBe("unauthenticated");
    expect(await outcome(s.authority.authenticate(second.token))).toBe("ok");
    await s.authority.revokeKey(s.owner, s.owner);
    expect(await outcome(s.authority.authenticate(second.token))).toBe("unauthenticated");
    expect(await s.authority.apiTokens(s.owner)).toEqual([]);
  });

  it("is refused without a name, without an end in sight, and beyond what its maker has", async () => {
    const s = await scene();
    const { by } = await s.session();
    for (const bad of [
      { name: "" },
      { name: "a\u001b[31mb" },
      { name: "x".repeat(65) },
      { name: 1 as never },
      { name: "x", expiresInSeconds: 0 },
      { name: "x", expiresInSeconds: 400 * 86_400 },
      { name: "x", expiresInSeconds: Number.NaN },
    ]) {
      expect(await outcome(s.authority.createApiToken(by, bad))).toBe("invalid");
    }
    const scopes = new Set<Scope>(["admin"]);
    expect(await outcome(s.authority.createApiToken(by, { name: "x", scopes }))).toBe("forbidden");
  });

  it("has at most ninety-nine siblings", async () => {
    const s = await scene();
    const { by } = await s.session();
    for (let made = 0; made < 100; made++) await s.authority.createApiToken(by, { name: `t${made}` });
    expect(await outcome(s.authority.createApiToken(by, { name: "one more" }))).toBe("limit");
    expect(await s.authority.apiTokens(s.owner)).toHaveLength(100);
  });
});
