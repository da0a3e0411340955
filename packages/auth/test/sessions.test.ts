import type { Authority, TokenPair } from "@formation-mcp/auth/authority";
import { generateKey, keyId } from "@formation-mcp/auth/keys";
import { LIMITS } from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DAY, MINUTE, outcome, SECOND, signed, told, world } from "./support/world.ts";

const refreshOf = (pair: TokenPair): string => pair.refresh_token ?? expect.fail("no refresh token");

async function scene() {
  const here = await world();
  const { authority, admin } = await here.founded();
  const begin = async (at: Authority = authority) => at.signIn(await signed(at, admin));
  return { ...here, authority, admin, begin };
}

describe("a refresh token", () => {
  it("renews for as long as it is used within thirty days, each time as another", async () => {
    const { authority, begin, clock } = await scene();
    let pair = await begin();
    const seen = new Set([refreshOf(pair)]);
    for (let round = 0; round < 5; round++) {
      clock.time += 29 * DAY;
      pair = await authority.refresh(refreshOf(pair));
      expect(seen).not.toContain(refreshOf(pair));
      seen.add(refreshOf(pair));
      expect(await outcome(authority.authenticate(pair.access_token))).toBe("ok");
    }
    clock.time += 30 * DAY;
    expect(await outcome(authority.refresh(refreshOf(pair)))).toBe("unauthenticated");
  });

  it("that was used before ends the session: refresh tokens at once, access tokens within five seconds", async () => {
    const { authority, begin, clock } = await scene();
    const first = await begin();
    const bystander = await begin();
    const second = await authority.refresh(refreshOf(first));
    clock.time += MINUTE;
    const third = await authority.refresh(refreshOf(second));
    await authority.authenticate(third.access_token);
    expect(await outcome(authority.refresh(refreshOf(first)))).toBe("unauthenticated");
    expect(await outcome(authority.refresh(refreshOf(third)))).toBe("unauthenticated");
    clock.time += LIMITS.revocationMs;
    for (const { access_token } of [first, second, third]) {
      expect(await outcome(authority.authenticate(access_token))).toBe("unauthenticated");
    }
    expect(await outcome(authority.authenticate(bystander.access_token))).toBe("ok");
    expect(await outcome(authority.refresh(refreshOf(bystander)))).toBe("ok");
  });

  it("whose reply was lost gives the same successor again within ten seconds, and ends the session after", async () => {
    const { authority, begin, clock } = await scene();
    const first = await begin();
    const lost = await authority.refresh(refreshOf(first));
    clock.time += 10 * SECOND;
    const again = await authority.refresh(refreshOf(first));
    expect(refreshOf(again)).toBe(refreshOf(lost));
    expect(await outcome(authority.authenticate(again.access_token))).toBe("ok");
    clock.time += 1;
    expect(await outcome(authority.refresh(refreshOf(first)))).toBe("unauthenticated");
    expect(await outcome(authority.refresh(refreshOf(again)))).toBe("unauthenticated");
  });

  it("whose successor was used already is a thief's, also within the ten seconds", async () => {
    const { authority, begin } = await scene();
    const first = await begin();
    const second = await authority.refresh(refreshOf(first));
    const third = await authority.refresh(refreshOf(second));
    expect(await outcome(authority.refresh(refreshOf(first)))).toBe("unauthenticated");
    expect(await outcome(authority.refresh(refreshOf(third)))).toBe("unauthenticated");
  });

  it("that many servers get at once has one successor", async () => {
    const { begin, server } = await scene();
    const servers = await Promise.all([server(), server(), server(), server()]);
    let pair = await begin();
    for (let round = 0; round < 5; round++) {
      const refresh = refreshOf(pair);
      const pairs = await Promise.all([...servers, ...servers].map((at) => at.refresh(refresh)));
      expect(new Set(pairs.map(refreshOf)).size).toBe(1);
      expect(new Set(pairs.map(({ access_token }) => access_token)).size).toBe(8);
      pair = pairs[round] as TokenPair;
    }
  });

  it("cannot be made from what the database holds, nor guessed from another", async () => {
    const { authority, begin, documents } = await scene();
    const pair = await begin();
    const { items } = await documents.list<Record<string, unknown>>({ kind: "refresh", limit: 10 });
    const [, id, turn, mac = ""] = /^fmr_(\w{32})_(\d+)_(.{43})$/.exec(refreshOf(pair)) ?? [];
    expect(mac).not.toBe("");
    expect(JSON.stringify(items)).not.toContain(mac);
    const [last] = items;
    for (const forged of [
      `fmr_${id}_${turn}_${"A".repeat(43)}`,
      `fmr_${id}_1_${mac}`,
      `fmr_${id}_00_${mac}`,
      `fmr_${id}_${turn}_${String(last?.doc["seed"])}`,
      `fmr_${"0".repeat(32)}_${turn}_${mac}`,
      `${refreshOf(pair)} `,
      pair.access_token,
      "fmr_",
      "",
      "x".repeat(100_000),
    ]) {
      expect(await outcome(authority.refresh(forged))).toBe("unauthenticated");
    }
    expect(await outcome(authority.refresh(undefined as never))).toBe("unauthenticated");
    // None of these ended the session: only a genuine token that is too old does.
    expect(await outcome(authority.refresh(refreshOf(pair)))).toBe("ok");
  });

  it("carries no scope that the account has no more, and none that the sign-in did not ask for", async () => {
    const { authority, server } = await scene();
    const key = generateKey("ed25519");
    await authority.admit(told(key), new Set(["vm:read", "vm:write", "pack:read"] as const));
    const scopes = new Set(["vm:read", "vm:write", "admin"] as const);
    const pair = await authority.signIn(await signed(authority, key), { scopes });
    expect(pair.scope).toBe("vm:read vm:write");
    await (await server()).admit({ id: keyId(key) }, new Set(["vm:read", "pack:write"] as const));
    const next = await authority.refresh(refreshOf(pair));
    expect(next.scope).toBe("vm:read");
  });
});

it("a session is a state machine: one living token, and whoever comes late with an old one ends it", async () => {
  const { authority, begin, clock, server } = await scene();
  const servers = [authority, await server()];
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ age: fc.nat(3), wait: fc.constantFrom(0, 5, 11), at: fc.nat(1) }), {
        minLength: 1,
        maxLength: 10,
      }),
      async (steps) => {
        const made = [refreshOf(await begin())];
        let turnedAt = clock.time;
        let ended = false;
        for (const { age, wait, at } of steps) {
          clock.time += wait * SECOND;
          const turn = Math.max(made.length - 1 - age, 0);
          const behind = made.length - 1 - turn;
          const isRetry = behind === 1 && clock.time - turnedAt <= 10 * SECOND;
          const result = await (servers[at] as Authority).refresh(made[turn] as string).catch(() => null);
          if (ended || (behind > 0 && !isRetry)) {
            expect(result).toBeNull();
            ended = true;
          } else if (isRetry) {
            expect(result?.refresh_token).toBe(made.at(-1));
          } else {
            made.push(refreshOf(result as TokenPair));
            turnedAt = clock.time;
          }
        }
      },
    ),
    { numRuns: 40 },
  );
});
