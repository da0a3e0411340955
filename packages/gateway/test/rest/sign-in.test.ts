import { SCOPES } from "@formation-mcp/auth";
import { generateKey, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { LIMITS } from "@formation-mcp/contract";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EVERYTHING, openWorld, type Someone, type World } from "./world.ts";

let world: World;
beforeEach(async () => {
  world = await openWorld();
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

const post = (path: string, json: unknown, token?: string) =>
  world.ask("POST", path, { json, ...(token === undefined ? {} : { token }) });
const get = (path: string, token: string) => world.ask("GET", path, { token });
const remove = (path: string, token: string) => world.ask("DELETE", path, { token });

async function challenge(address: string): Promise<string> {
  const said = await world.ask("GET", `/api/auth/challenge?address=${encodeURIComponent(address)}`);
  expect(said.data).toMatchObject({ address, nonce: expect.any(String), expires_at: expect.any(Number) });
  return String(said.data["message"]);
}

describe("signing in", () => {
  it.each(["secp256k1", "ed25519"] as const)(
    "goes with a key of %s, for all or fewer scopes",
    async (kind) => {
      const key = generateKey(kind);
      const address = keyId(key);
      const publicKey = key.publicJwk();
      await world.authority.admit(kind === "ed25519" ? { publicKey } : { id: address }, new Set(EVERYTHING));
      const login = async (more: object = {}) => {
        const message = await challenge(address);
        const { signature } = signMessage(key, message);
        return post("/api/auth/login", {
          address,
          signed_message: message,
          signature,
          public_key: publicKey,
          ...more,
        });
      };
      const all = await login();
      expect(all.status).toBe(200);
      expect(all.data["permissions"]).toEqual(expect.arrayContaining([...EVERYTHING]));
      const fewer = await login({ scopes: "vm:read pack:read" });
      expect(new Set(fewer.data["permissions"] as string[])).toEqual(new Set(["pack:read", "vm:read"]));
      expect((await login({ scopes: ["everything"] })).status).toBe(400);
      const who = await get("/api/auth/whoami", String(fewer.data["token"]));
      expect(who.data).toMatchObject({ user_id: address, bounds: null, client_id: "formation" });
    },
  );

  it("is refused for a challenge of another address, an old one, and a key without an account", async () => {
    const key = generateKey("secp256k1");
    const address = keyId(key);
    const message = await challenge(address);
    const { signature } = signMessage(key, message);
    const login = { address, signed_message: message, signature };
    const other = { ...login, address: keyId(generateKey("secp256k1")) };
    expect((await post("/api/auth/login", other)).status).toBe(401);
    expect((await post("/api/auth/login", login)).status).toBe(403);
    await world.authority.admit({ id: address }, new Set(EVERYTHING));
    const late = await challenge(address);
    world.time.offset += LIMITS.challengeMs + 1000;
    const said = await post("/api/auth/login", {
      address,
      signed_message: late,
      signature: signMessage(key, late).signature,
    });
    expect(said.status).toBe(401);
    expect(said.headers.get("www-authenticate")).toMatch(/^Bearer /);
  });

  it("is renewed with a refresh token once; twice ends the session", async () => {
    const alice = await world.someone(EVERYTHING);
    const renewed = await post("/api/auth/refresh", { refresh_token: alice.refresh });
    expect(renewed.data).toMatchObject({ token: expect.any(String), refresh_token: expect.any(String) });
    world.time.offset += 60_000; // beyond what a lost answer is forgiven
    expect((await post("/api/auth/refresh", { refresh_token: alice.refresh })).status).toBe(401);
    expect((await post("/api/auth/refresh", { refresh_token: renewed.data["refresh_token"] })).status).toBe(
      401,
    );
  });

  it("ends by revoking the token, whatever kind it is; what is none is as good as revoked", async () => {
    const alice = await world.someone(EVERYTHING);
    expect((await post("/api/auth/validate", { token: alice.token })).data).toMatchObject({
      valid: true,
      user_id: alice.owner,
    });
    for (const token of [alice.token, "nonsense", alice.refresh]) {
      expect((await post("/api/auth/revoke", { token })).data).toEqual({ revoked: true });
    }
    const { items } = await world.store.audit.page({ action: "POST /api/auth/revoke", limit: 9 });
    const session = alice.refresh.replace(/^fmr_([0-9a-f]+)_.*$/, "ses_$1");
    expect(items.map(({ owner, target }) => [owner, target]).reverse()).toEqual([
      [alice.owner, expect.stringMatching(new RegExp(`^${session}`))],
      [null, null],
      [null, null], // its session had ended with the first
    ]);
    expect((await post("/api/auth/validate", { token: alice.token })).status).toBe(401);
    expect((await get("/api/auth/whoami", alice.token)).status).toBe(401);
  });

  it("of the first key makes an admin, with the token of the first start, once", async () => {
    const token = (await world.authority.bootstrapToken()) ?? "";
    const attempt = async (bootstrap_token: string) => {
      const key = generateKey("secp256k1");
      const message = await challenge(keyId(key));
      const { signature } = signMessage(key, message);
      return post("/api/auth/bootstrap", {
        bootstrap_token,
        address: keyId(key),
        signed_message: message,
        signature,
      });
    };
    expect([401, 403]).toContain((await attempt("wrong")).status);
    const first = await attempt(token);
    expect(first.data["permissions"]).toContain("admin");
    expect([401, 403]).toContain((await attempt(token)).status);
  });
});

describe("keys and tokens", () => {
  let alice: Someone;
  beforeEach(async () => {
    alice = await world.someone(EVERYTHING);
  });

  it("an account has keys that are added, listed, and removed with their tokens", async () => {
    const second = generateKey("ed25519");
    const proof = async () => {
      const message = await challenge(keyId(second));
      const { signature } = signMessage(second, message);
      const public_key = second.publicJwk();
      return { address: keyId(second), signed_message: message, signature, public_key, label: "laptop" };
    };
    const word = await proof();
    const { signature } = signMessage(generateKey("ed25519"), word.signed_message);
    expect((await post("/api/keys", { ...word, signature }, alice.token)).status).toBe(401);
    const added = await post("/api/keys", await proof(), alice.token);
    const keys = added.data["keys"] as { id: string; kind: string; label: string | null }[];
    expect(keys).toHaveLength(2);
    expect(keys).toContainEqual(
      expect.objectContaining({ id: keyId(second), kind: "ed25519", label: "laptop" }),
    );
    const { label: _, ...login_ } = await proof();
    const login = await post("/api/auth/login", login_);
    expect(login.data["user_id"]).toBe(alice.owner);
    const removed = await remove(`/api/keys/${encodeURIComponent(keyId(second))}`, alice.token);
    expect(removed.data["keys"]).toHaveLength(1);
    expect((await get("/api/keys", String(login.data["token"]))).status).toBe(401);
    expect((await remove("/api/keys/nothing/tokens", alice.token)).status).toBe(404);
  });

  it("API tokens are shown once, listed without themselves, and end when revoked", async () => {
    const made = await post(
      "/api/tokens",
      { name: "ci", scopes: ["vm:read"], bounds: { instances: ["web"] }, expires_in_seconds: 3600 },
      alice.token,
    );
    const { token, id } = made.data as { token: string; id: string };
    expect(token).toMatch(/^fmt_/);
    const listed = await get("/api/tokens", alice.token);
    expect(listed.data["tokens"]).toMatchObject([
      {
        id,
        name: "ci",
        scopes: ["vm:read"],
        bounds: { instances: ["web"] },
        expires_at: expect.stringMatching(/Z$/),
      },
    ]);
    expect(JSON.stringify(listed.body)).not.toContain(token);
    expect((await get("/api/auth/whoami", token)).data).toMatchObject({
      user_id: alice.owner,
      permissions: ["vm:read"],
      bounds: { instances: ["web"] },
    });
    const bob = await world.someone(EVERYTHING);
    expect((await remove(`/api/tokens/${id}`, bob.token)).status).toBe(404);
    expect((await remove(`/api/tokens/${id}`, alice.token)).data).toEqual({ revoked: true });
    expect((await get("/api/auth/whoami", token)).status).toBe(401);
  });

  it("a narrowed token can do less, and neither it nor an API token can make anything that lasts", async () => {
    const narrow = await post(
      "/api/tokens/narrow",
      { scopes: ["vm:read"], expires_in_seconds: 60 },
      alice.token,
    );
    expect(narrow.data["permissions"]).toEqual(["vm:read"]);
    const less = String(narrow.data["token"]);
    expect((await post("/api/tokens/narrow", { scopes: ["vm:write"] }, less)).status).toBe(403);
    const same = await post("/api/tokens/narrow", { expires_in_seconds: 60 }, alice.token);
    const ci = await post("/api/tokens", { name: "ci" }, alice.token);
    const part = await fewerScopes(alice);
    const makers: [string, string][] = [
      ["narrowed", less],
      ["as wide but shorter", String(same.data["token"])],
      ["an API token", String(ci.data["token"])],
      ["fewer scopes", part],
    ];
    const other = { address: keyId(generateKey("secp256k1")), signed_message: "a\nb", signature: "0x00" };
    for (const [what, token] of makers) {
      const statuses = await Promise.all([
        post("/api/keys", other, token),
        remove(`/api/keys/${alice.owner}`, token),
        remove(`/api/keys/${alice.owner}/tokens`, token),
        post("/api/tokens", { name: "more" }, token),
        remove("/api/tokens", token),
        remove(`/api/tokens/${String(ci.data["id"])}`, token),
      ]);
      const own = what === "an API token" ? 200 : 403;
      expect([what, ...statuses.map(({ status }) => status)]).toEqual([what, 403, 403, 403, 403, 403, own]);
    }
  });

  it("all of an account end together", async () => {
    const ci = await post("/api/tokens", { name: "ci" }, alice.token);
    expect((await remove("/api/tokens", alice.token)).data).toEqual({ revoked: true });
    for (const token of [alice.token, String(ci.data["token"])]) {
      expect((await get("/api/auth/whoami", token)).status).toBe(401);
    }
    expect((await post("/api/auth/refresh", { refresh_token: alice.refresh })).status).toBe(401);
  });

  async function fewerScopes({ key }: Someone): Promise<string> {
    const message = await challenge(keyId(key));
    const { signature } = signMessage(key, message);
    const said = await post("/api/auth/login", {
      address: keyId(key),
      signed_message: message,
      signature,
      scopes: ["vm:read"],
    });
    return String(said.data["token"]);
  }
});

describe("an admin", () => {
  it("admits keys, changes scopes, sets quotas, ends tokens, and reads who did what", async () => {
    const admin = await world.someone(SCOPES);
    const id = keyId(generateKey("secp256k1"));
    const admitted = await post("/api/accounts", { id, label: "ci", scopes: ["vm:read"] }, admin.token);
    expect(admitted.data).toMatchObject({
      user_id: id,
      permissions: ["vm:read"],
      keys: [{ id, label: "ci" }],
    });
    const changed = await world.ask("PUT", `/api/accounts/${id}/scopes`, {
      token: admin.token,
      json: { scopes: ["vm:read", "vm:write"] },
    });
    expect(changed.data["permissions"]).toEqual(expect.arrayContaining(["vm:write"]));
    expect((await get(`/api/accounts/${id}`, admin.token)).data).toMatchObject({ user_id: id });
    expect((await get("/api/accounts/nobody", admin.token)).status).toBe(404);
    const accounts = await get("/api/accounts?limit=50", admin.token);
    expect((accounts.data["accounts"] as { user_id: string }[]).map(({ user_id }) => user_id)).toContain(id);

    const quota = await world.ask("PUT", `/api/quota/${id}`, {
      token: admin.token,
      json: { instances: 3, vcpus: null },
    });
    expect(quota.data).toMatchObject({ user_id: id, limits: { instances: 3 }, usage: { instances: 0 } });
    expect((await get(`/api/quota/${id}`, admin.token)).data).toMatchObject({ limits: { instances: 3 } });
    expect((await remove(`/api/quota/${id}`, admin.token)).data).toMatchObject({
      limits: { instances: null },
    });
    for (const json of [{ instances: -1 }, { instances: 1.5 }, { instances: "3" }, { wheels: 4 }]) {
      expect((await world.ask("PUT", `/api/quota/${id}`, { token: admin.token, json })).status).toBe(400);
    }
    const bob = await world.someone(EVERYTHING);
    expect((await get("/api/quota", bob.token)).data).toMatchObject({
      user_id: bob.owner,
      usage: { vcpus: 0 },
    });
    expect((await remove(`/api/accounts/${bob.owner}/tokens`, admin.token)).status).toBe(200);
    expect((await get("/api/quota", bob.token)).status).toBe(401);

    const log = await get("/api/audit?action=PUT%20%2Fapi%2Fquota%2F%7Bid%7D&outcome=ok", admin.token);
    expect(log.data["lines"]).toMatchObject([
      { owner: admin.owner, target: id, outcome: "ok", at: expect.stringMatching(/Z$/) },
    ]);
    const first = await get(`/api/audit?limit=2&user_id=${admin.owner}`, admin.token);
    const next = await get(
      `/api/audit?limit=2&cursor=${String(first.data["cursor"])}&user_id=${admin.owner}`,
      admin.token,
    );
    expect(first.data["lines"]).not.toEqual(next.data["lines"]);
    const since = await get("/api/audit?since=2099-01-01T00:00:00Z", admin.token);
    expect(since.data["lines"]).toEqual([]);
    expect((await get("/api/audit?since=yesterday", admin.token)).status).toBe(400);
  });

  it("changes the scopes of the account that is named, wherever the key went that opened it", async () => {
    const [admin, alice, bob] = [
      await world.someone(SCOPES),
      await world.someone(EVERYTHING),
      await world.someone(["vm:read"]),
    ];
    const scopesOf = async (owner: string) => (await world.authority.account(owner))?.scopes;
    const set = (owner: string, scopes: readonly string[]) =>
      world.ask("PUT", `/api/accounts/${owner}/scopes`, { token: admin.token, json: { scopes } });
    const signed = async (key: KeyPair) =>
      signMessage(key, (await world.authority.challenge({ address: keyId(key) })).message);
    const second = generateKey("secp256k1");
    await world.authority.addKey(alice.owner, await signed(second));
    await world.authority.removeKey(alice.owner, alice.owner);
    expect((await set(alice.owner, ["pack:read"])).status).toBe(200);
    expect(await scopesOf(alice.owner)).toEqual(["pack:read"]);

    await world.authority.addKey(bob.owner, await signed(alice.key));
    expect((await set(alice.owner, SCOPES)).data["user_id"]).toBe(alice.owner);
    expect(await scopesOf(bob.owner)).toEqual(["vm:read"]);
  });

  it("does nothing with a token that has bounds", async () => {
    const admin = await world.someone(SCOPES);
    const fenced = await post("/api/tokens/narrow", { bounds: { instances: ["web"] } }, admin.token);
    expect((await get("/api/accounts", String(fenced.data["token"]))).status).toBe(403);
  });
});
