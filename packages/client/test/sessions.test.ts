import { generateKey, KEY_KINDS } from "@formation-mcp/auth/keys";
import {
  createClient,
  keySigner,
  type Session,
  type SessionStorage,
  walletSigner,
} from "@formation-mcp/client";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { drop, reply, type TestServer, testServer } from "./server.ts";

let server: TestServer;
beforeEach(async () => {
  server = await testServer();
  server.on("/api/tools/vm_list", () => ({ instances: [], cursor: null }));
});
afterEach(() => server.close());

const key = generateKey("ed25519");
const client = (more: object = {}) => createClient({ url: server.url, key: keySigner(key), ...more });
const signIns = () => server.count("/api/auth/login");
const renewals = () => server.count("/api/auth/refresh");

/** A place that several clients share, as programs share a file. */
function shared(): SessionStorage & { session: Session | null } {
  let last: Promise<unknown> = Promise.resolve();
  const place = {
    session: null as Session | null,
    load: () => place.session,
    save: (session: Session | null) => {
      place.session = session;
    },
    withLock: <T>(work: () => Promise<T>): Promise<T> => {
      const mine = last.then(work, work);
      last = mine.catch(() => undefined);
      return mine;
    },
  };
  return place;
}

describe("signing in", () => {
  it.each(KEY_KINDS)("happens by itself with a key of kind %s, once", async (kind) => {
    const someone = client({ key: keySigner(generateKey(kind)) });
    await Promise.all([someone.call("vm_list", {}), someone.call("vm_list", {}), someone.whoami()]);
    expect(signIns()).toBe(1);
    expect(server.seen.at(-1)?.headers.authorization).toMatch(/^Bearer access-/);
  });

  it("takes a wallet that signs with personal_sign", async () => {
    const inside = generateKey("secp256k1");
    const wallet = {
      async request({ method, params = [] }: { method: string; params?: unknown[] }) {
        expect([method, params[1]]).toEqual(["personal_sign", inside.address]);
        const signature = inside.sign(Buffer.from(String(params[0]).slice(2), "hex"));
        return `0x${Buffer.from(signature).toString("hex")}`;
      },
    };
    const identity = await client({ key: walletSigner(wallet, inside.address ?? "") }).whoami();
    expect(identity).toMatchObject({ owner: "0xowner", scopes: ["vm:read", "pack:write"] });
  });

  it("fetches a key only when it is to sign, and again if it could not be had", async () => {
    let asked = 0;
    const lazy = async () => {
      if (++asked === 1) throw new Error("the wrong passphrase");
      return keySigner(key);
    };
    const someone = client({ key: lazy });
    expect(asked).toBe(0);
    await expect(someone.whoami()).rejects.toThrow();
    await someone.whoami();
    await someone.signIn();
    expect(asked).toBe(2);
  });

  it("asks for fewer scopes if told so", async () => {
    await client({ scopes: ["vm:read"] }).whoami();
    expect(server.seen.find(({ path }) => path === "/api/auth/login")?.json["scopes"]).toEqual(["vm:read"]);
  });

  it("never signs a message that is for another place", async () => {
    server.domain = "https://bank.example.org";
    await expect(client().whoami()).rejects.toMatchObject({ code: "invalid" });
    expect(signIns()).toBe(0);
  });

  it("shows an API token as it is, and never signs in with it", async () => {
    const someone = createClient({ url: server.url, token: "fmt_x_y" });
    await someone.call("vm_list", {});
    expect(server.seen.at(-1)?.headers.authorization).toBe("Bearer fmt_x_y");
    expect(signIns()).toBe(0);
  });

  it("makes a key the first admin with the server's own token", async () => {
    const someone = client();
    await expect(someone.bootstrap("guess")).rejects.toMatchObject({ code: "unauthenticated" });
    await someone.bootstrap("once");
    await someone.whoami();
    expect(signIns()).toBe(0);
  });

  it("without a key says that nobody is signed in", async () => {
    const error = await createClient({ url: server.url })
      .whoami()
      .catch((thrown) => thrown);
    expect(error).toMatchObject({
      code: "unauthenticated",
      details: { remedy: expect.stringContaining("key") },
    });
  });
});

describe("renewing", () => {
  it("happens before the token expires, once for all who wait", async () => {
    server.tokenSeconds = 60; // less than a call may take
    const someone = client();
    await someone.whoami();
    server.tokenSeconds = 900;
    await Promise.all(Array.from({ length: 10 }, () => someone.call("vm_list", {})));
    expect([signIns(), renewals()]).toEqual([1, 1]);
  });

  it("happens when the server takes the token no more, and nobody hears of it", async () => {
    const someone = client();
    await someone.whoami();
    server.expireTokens();
    await Promise.all([someone.call("vm_list", {}), someone.call("vm_list", {})]);
    expect([signIns(), renewals()]).toEqual([1, 1]);
  });

  it("becomes a sign-in when the refresh token is refused", async () => {
    const someone = client();
    await someone.whoami();
    server.expireTokens();
    server.next("/api/auth/refresh", (response) =>
      reply(response, 401, { status: "error", error: { code: "unauthenticated", message: "void" } }),
    );
    await someone.call("vm_list", {});
    expect([signIns(), renewals()]).toEqual([2, 1]);
  });

  it("never sends a refresh token a second time, for that would end the session", async () => {
    const someone = client();
    await someone.whoami();
    server.expireTokens();
    server.next("/api/auth/refresh", drop);
    await someone.call("vm_list", {});
    expect([signIns(), renewals()]).toEqual([2, 1]);
  });

  it("is given up after one new token that is refused as well", async () => {
    const someone = client();
    await someone.whoami();
    for (let i = 0; i < 3; i++)
      server.next("/api/tools/vm_list", (response) =>
        reply(response, 401, { status: "error", error: { code: "unauthenticated", message: "no" } }),
      );
    await expect(someone.call("vm_list", {})).rejects.toMatchObject({ code: "unauthenticated" });
    expect(server.count("/api/tools/vm_list")).toBe(2);
  });
});

describe("a session that is kept", () => {
  it("is used by the next client, which needs no key", async () => {
    const storage = shared();
    await client({ storage }).whoami();
    await createClient({ url: server.url, storage }).whoami();
    expect(signIns()).toBe(1);
  });

  it("is renewed by one of those who share it", async () => {
    const storage = shared();
    const some = [client({ storage }), client({ storage }), client({ storage })];
    await some[0]?.whoami();
    for (const one of some) await one.whoami(); // each has read it
    server.expireTokens();
    await Promise.all(some.map((one) => one.call("vm_list", {})));
    expect([signIns(), renewals()]).toEqual([1, 1]);
  });

  it("ends with signing out, here and on the server", async () => {
    const storage = shared();
    const someone = client({ storage });
    await someone.whoami();
    const { refresh_token } = storage.session ?? {};
    await someone.signOut();
    expect(storage.session).toBeNull();
    expect(server.seen.at(-1)).toMatchObject({ path: "/api/auth/revoke", json: { token: refresh_token } });
  });

  it("is forgotten when it can't be renewed and there is no key", async () => {
    const storage = shared();
    await client({ storage }).whoami();
    server.expireTokens();
    server.next("/api/auth/refresh", (response) =>
      reply(response, 401, { status: "error", error: { code: "unauthenticated", message: "void" } }),
    );
    await expect(createClient({ url: server.url, storage }).whoami()).rejects.toMatchObject({
      code: "unauthenticated",
      message: expect.stringContaining(server.url),
    });
    expect(storage.session).toBeNull();
  });
});
