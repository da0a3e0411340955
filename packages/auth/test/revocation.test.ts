import type { Scope } from "@formation-mcp/auth";
import type { Authority, TokenPair } from "@formation-mcp/auth/authority";
import { generateKey, keyId } from "@formation-mcp/auth/keys";
import { type Documents, LIMITS } from "@formation-mcp/contract";
import { describe, expect, it } from "vitest";
import { MINUTE, outcome, SECOND, signed, told, type World, world } from "./support/world.ts";

/**
 * Two servers over one database, an account with two keys, and a token of each that both servers have seen.
 */
async function scene() {
  const here = await world();
  const { authority: one } = await here.founded();
  const two = await here.server();
  const [first, second] = [generateKey("ed25519"), generateKey("secp256k1")];
  const owner = keyId(first);
  await one.admit(told(first), new Set<Scope>(["vm:read", "vm:write"]));
  await one.addKey(owner, await signed(one, second));
  const session = await one.signIn(await signed(one, first));
  const otherKeys = await one.signIn(await signed(one, second));
  const stranger = generateKey("ed25519");
  await one.admit(told(stranger), new Set<Scope>(["vm:read"]));
  const strangers = await one.signIn(await signed(one, stranger));
  const all = { session, otherKeys, strangers };
  for (const { access_token } of Object.values(all)) {
    await one.authenticate(access_token);
    await two.authenticate(access_token);
  }
  return { ...here, one, two, first, second, owner, stranger, ...all };
}

const takes = async (authority: Authority, token: string) =>
  (await outcome(authority.authenticate(token))) === "ok";

/**
 * Whether a token is refused by another process within the time promised, while it is being used all along.
 */
async function endsElsewhere({ clock }: World, other: Authority, token: string): Promise<boolean> {
  const until = clock.time + LIMITS.revocationMs;
  for (; clock.time < until; clock.time += SECOND / 2) if (!(await takes(other, token))) return true;
  return !(await takes(other, token));
}

type Scene = Awaited<ReturnType<typeof scene>>;
const WAYS: [what: string, revoke: (s: Scene) => Promise<unknown>, endsOtherKeys: boolean][] = [
  [
    "by its id",
    async (s) =>
      s.one.revokeToken(s.owner, (await s.one.authenticate(s.session.access_token)).principal.tokenId),
    false,
  ],
  ["by showing it", (s) => s.one.revokeBearer(s.session.access_token), false],
  ["by showing its refresh token", (s) => s.one.revokeBearer(s.session.refresh_token ?? ""), false],
  ["by its key", (s) => s.one.revokeKey(s.owner, keyId(s.first)), false],
  ["by its owner", (s) => s.one.revokeOwner(s.owner), true],
  ["because its key was removed", (s) => s.one.removeKey(s.owner, keyId(s.first)), false],
];

it("two revocations of one second end what was made between them", async () => {
  const s = await scene();
  for (const revoke of [() => s.one.revokeKey(s.owner, keyId(s.first)), () => s.one.revokeOwner(s.owner)]) {
    s.clock.time = Math.ceil(s.clock.time / SECOND) * SECOND + 100;
    await revoke();
    s.clock.time += 300;
    const between = await s.one.signIn(await signed(s.one, s.first));
    expect(await takes(s.one, between.access_token)).toBe(true);
    s.clock.time += 300;
    await revoke();
    expect(await takes(s.one, between.access_token)).toBe(false);
    expect(await outcome(s.one.refresh(between.refresh_token ?? ""))).toBe("unauthenticated");
    const after = await s.one.signIn(await signed(s.one, s.first));
    expect(await takes(s.one, after.access_token)).toBe(true);
  }
});

describe("a token that is taken back", () => {
  it.each(WAYS)(
    "%s ends in every process within five seconds, and nothing else does",
    async (_, revoke, all) => {
      const s = await scene();
      s.clock.time += 10 * SECOND;
      for (const authority of [s.one, s.two])
        expect(await takes(authority, s.session.access_token)).toBe(true);
      await revoke(s);
      expect(await takes(s.one, s.session.access_token)).toBe(false);
      expect(await endsElsewhere(s, s.two, s.session.access_token)).toBe(true);
      expect(await outcome(s.two.refresh(s.session.refresh_token ?? ""))).toBe("unauthenticated");
      expect(await takes(s.two, s.otherKeys.access_token)).toBe(!all);
      expect(await outcome(s.one.refresh(s.otherKeys.refresh_token ?? ""))).toBe(
        all ? "unauthenticated" : "ok",
      );
      expect(await takes(s.two, s.strangers.access_token)).toBe(true);
    },
  );

  it.each(WAYS)("%s stays ended until it would have ended by itself", async (_, revoke) => {
    const s = await scene();
    await revoke(s);
    for (let minute = 0; minute <= 16; minute++, s.clock.time += MINUTE) {
      expect(await takes(await s.server(), s.session.access_token)).toBe(false);
    }
  });

  it.each([0.5, 1.5, 1.999, 2.5, 2.999])(
    "ends in time also if it is first shown %f seconds later, where its account is remembered from before",
    async (later) => {
      const s = await scene();
      const fresh = await s.one.signIn(await signed(s.one, s.second));
      s.clock.time += 10 * SECOND;
      expect(await takes(s.two, s.session.access_token)).toBe(true);
      await s.one.revokeOwner(s.owner);
      const until = s.clock.time + LIMITS.revocationMs;
      s.clock.time += later * SECOND;
      await takes(s.two, fresh.access_token);
      s.clock.time = until;
      expect(await takes(s.two, fresh.access_token)).toBe(false);
    },
  );

  it("does not hold up what is signed in after it, not even in the same millisecond", async () => {
    const s = await scene();
    for (const revoke of [() => s.one.revokeOwner(s.owner), () => s.one.revokeKey(s.owner, keyId(s.first))]) {
      await revoke();
      const pair = await s.one.signIn(await signed(s.one, s.first));
      expect(await takes(s.one, pair.access_token)).toBe(true);
      expect(await takes(s.two, pair.access_token)).toBe(true);
      expect(await outcome(s.one.refresh(pair.refresh_token ?? ""))).toBe("ok");
      const { token } = await s.one.createApiToken(await s.one.authenticate(pair.access_token), {
        name: "ci",
      });
      expect(await takes(s.two, token)).toBe(true);
      s.clock.time += 10 * SECOND;
    }
  });

  it("is no help to make another from, however fresh it looks in the process that is asked", async () => {
    const s = await scene();
    const by = await s.two.authenticate(s.session.access_token);
    await s.one.revokeKey(s.owner, keyId(s.first));
    expect(await takes(s.two, s.session.access_token)).toBe(true);
    expect(await outcome(s.two.narrow(by, {}))).toBe("unauthenticated");
    expect(await outcome(s.two.createApiToken(by, { name: "late" }))).toBe("unauthenticated");
  });
});

describe("nobody ends another's token", () => {
  it("by knowing its id", async () => {
    const s = await scene();
    const { principal, family = "" } = await s.one.authenticate(s.session.access_token);
    const { tokenId } = principal;
    for (const id of [tokenId, family, `${tokenId}~${"A".repeat(16)}`]) {
      expect(await s.one.revokeToken(keyId(s.stranger), id)).toBe(false);
    }
    s.clock.time += LIMITS.revocationMs;
    expect(await takes(s.one, s.session.access_token)).toBe(true);
    expect(await takes(s.two, s.session.access_token)).toBe(true);
  });

  it("an id that no token can have ends nothing", async () => {
    const s = await scene();
    for (const id of [
      "",
      "ses_",
      "tok_",
      "../x",
      "a b",
      `ses_${"0".repeat(32)}.x`,
      `tok_${"0".repeat(32)}`,
    ]) {
      expect(await s.one.revokeToken(s.owner, id)).toBe(false);
    }
    expect(await s.one.revokeToken(s.owner, "x".repeat(100_000))).toBe(false);
    expect(await s.one.revokeToken(s.owner, undefined as never)).toBe(false);
  });

  it("revoking a text that is no token, or no longer one, is no error (RFC 7009 §2.2)", async () => {
    const s = await scene();
    for (const token of ["", "x", "fmr_x", "fmt_x", s.session.access_token, s.session.access_token]) {
      expect(await outcome(s.one.revokeBearer(token))).toBe("ok");
    }
    expect(await outcome(s.one.revokeBearer(undefined as never))).toBe("ok");
  });
});

describe("a scope that an account loses", () => {
  it("is lost to its tokens in every process within five seconds, and comes back with it", async () => {
    const s = await scene();
    const canWrite = async (authority: Authority, { access_token }: TokenPair) =>
      (await authority.authenticate(access_token)).principal.scopes.has("vm:write");
    expect(await canWrite(s.two, s.session)).toBe(true);
    await s.one.admit({ id: s.owner }, new Set<Scope>(["vm:read"]));
    expect(await canWrite(s.one, s.session)).toBe(false);
    s.clock.time += LIMITS.revocationMs;
    expect(await canWrite(s.two, s.session)).toBe(false);
    await s.one.admit({ id: s.owner }, new Set<Scope>(["vm:read", "vm:write", "admin"]));
    s.clock.time += LIMITS.revocationMs;
    const { scopes } = (await s.two.authenticate(s.session.access_token)).principal;
    expect([...scopes].sort()).toEqual(["vm:read", "vm:write"]);
  });
});

describe("what is remembered of a token", () => {
  it("saves the store the question for two seconds, and never outlives the token", async () => {
    const here = await world();
    const { authority, admin } = await here.founded();
    let reads = 0;
    const documents = new Proxy(here.documents, {
      get: (target, name) => {
        const method = target[name as keyof Documents] as (...args: unknown[]) => unknown;
        return (...args: unknown[]) => {
          reads++;
          return method.apply(target, args);
        };
      },
    });
    const counted = await here.server({ documents });
    const { access_token } = await authority.signIn(await signed(authority, admin));
    await counted.authenticate(access_token);
    const first = reads;
    expect(first).toBeGreaterThan(0);
    for (let call = 0; call < 1000; call++) await counted.authenticate(access_token);
    expect(reads).toBe(first);
    here.clock.time += 3 * SECOND;
    await Promise.all(Array.from({ length: 100 }, () => counted.authenticate(access_token)));
    expect(reads - first).toBeLessThan(10);
    here.clock.time += LIMITS.accessTokenMs - 3 * SECOND - 1;
    expect(await takes(counted, access_token)).toBe(true);
    here.clock.time += 1;
    expect(await takes(counted, access_token)).toBe(false);
  });

  it("is nothing while the store does not answer: then nobody is let in on old knowledge", async () => {
    const here = await world();
    const { authority, admin } = await here.founded();
    let broken = false;
    const documents = new Proxy(here.documents, {
      get: (target, name) => {
        const method = target[name as keyof Documents] as (...args: unknown[]) => unknown;
        return (...args: unknown[]) =>
          broken ? Promise.reject(new Error("the disk is gone")) : method.apply(target, args);
      },
    });
    const shaky = await here.server({ documents });
    const { access_token } = await authority.signIn(await signed(authority, admin));
    await shaky.authenticate(access_token);
    broken = true;
    here.clock.time += LIMITS.revocationMs;
    await expect(shaky.authenticate(access_token)).rejects.toThrow("the disk is gone");
    broken = false;
    expect(await takes(shaky, access_token)).toBe(true);
  });
});
