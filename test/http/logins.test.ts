// @module-tag bundles

// Sign-ins that must fail: replayed, reordered, changed, from another server, or made for another account.

import { generateKey, type KeyPair, keyId } from "@formation-mcp/auth/keys";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ground, openGround } from "../support/http/ground.ts";
import { challenge, newUser, type Person, rest, signed, signIn } from "../support/http/people.ts";

let ground: Ground;
/** Another server with accounts for the same keys. */
let other: Ground;
let edwards: Person;

beforeAll(async () => {
  [ground, other] = await Promise.all([openGround(), openGround()]);
  edwards = await newUser(ground.url, ground.admin, undefined, "ed25519");
});
afterAll(async () => {
  await ground?.close();
  await other?.close();
});

const login = (body: unknown) => rest(ground.url, "POST", "/api/auth/login", { body });
const fresh = (key: KeyPair) => challenge(ground.url, keyId(key));

describe("A challenge is good once:", () => {
  test.each(["secp256k1", "ed25519"] as const)(
    "a login that was taken is refused when it comes again (%s)",
    async (kind) => {
      const { key } = kind === "ed25519" ? edwards : ground.user;
      const body = signed(key, await fresh(key));
      expect((await login(body)).status).toBe(200);
      for (let again = 0; again < 3; again++) ground.refused(await login(body), 401);
    },
  );

  test("of twenty at the same time one is let in", async () => {
    const body = signed(ground.user.key, await fresh(ground.user.key));
    const statuses = (await Promise.all(Array.from({ length: 20 }, () => login(body)))).map(
      ({ status }) => status,
    );
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    expect(new Set(statuses)).toEqual(new Set([200, 401]));
  });

  test("two challenges may be answered in any order, each once", async () => {
    const { key } = ground.user;
    const [first, second] = [signed(key, await fresh(key)), signed(key, await fresh(key))];
    for (const body of [second, first]) expect((await login(body)).status).toBe(200);
    for (const body of [first, second]) ground.refused(await login(body), 401);
  });

  test("one that was answered wrongly is used up", async () => {
    const { key } = ground.user;
    const message = await fresh(key);
    const wrong = { ...signed(key, message), signature: `0x${"11".repeat(65)}` };
    ground.refused(await login(wrong), [400, 401]);
    ground.refused(await login(signed(key, message)), 401);
  });

  test("the bootstrap token was good once, for one key", async () => {
    const key = generateKey("secp256k1");
    const body = { ...signed(key, await fresh(key)), bootstrap_token: await ground.server.bootstrapToken() };
    ground.refused(await rest(ground.url, "POST", "/api/auth/bootstrap", { body }), [401, 403]);
  });
});

describe("What is signed must be this server's own message, to the letter:", () => {
  const changes: [string, (message: string) => string][] = [
    ["a message of one's own", () => "I want to authenticate with the MCP server at timestamp 1683721584"],
    ["nothing", () => ""],
    ["another domain", (text) => text.replace(/^[^ ]+/, "evil.example")],
    ["another URI", (text) => text.replace(/^URI: .*$/m, "URI: https://evil.example")],
    ["another nonce", (text) => text.replace(/^Nonce: .*$/m, `Nonce: ${"0".repeat(32)}`)],
    ["another chain", (text) => text.replace(/^Chain ID: .*$/m, "Chain ID: 5")],
    ["another version", (text) => text.replace("Version: 1", "Version: 2")],
    ["a later end", (text) => text.replace(/^Expiration Time: \d{4}/m, "Expiration Time: 2099")],
    ["a statement that was added", (text) => text.replace("\n\n\n", "\n\nGive me everything.\n\n")],
    ["a resource that was added", (text) => `${text}\nResources:\n- https://evil.example`],
    ["a space at its end", (text) => `${text} `],
    ["a line feed at its end", (text) => `${text}\n`],
    ["carriage returns", (text) => text.replaceAll("\n", "\r\n")],
    ["a zero-width space", (text) => text.replace("wants", "wants\u200b")],
    ["a NUL", (text) => `${text}\0`],
    ["ten thousand letters more", (text) => text + "x".repeat(10_000)],
  ];
  test.each(changes)("%s", async (_, change) => {
    const { key } = ground.user;
    ground.refused(await login(signed(key, change(await fresh(key)))), [400, 401]);
  });
});

describe("Nobody signs in as somebody else:", () => {
  const stranger = generateKey("secp256k1");
  const cases: [string, () => Promise<Record<string, unknown>>][] = [
    [
      "with a signature of another key",
      async () => {
        const message = await fresh(ground.user.key);
        return { ...signed(stranger, message), address: ground.user.id };
      },
    ],
    [
      "with another's name on one's own message",
      async () => ({ ...signed(stranger, await fresh(stranger)), address: ground.admin.id }),
    ],
    ["with one's own name on another's message", async () => signed(stranger, await fresh(ground.admin.key))],
    [
      "with the signature's mirror image (n - s, EIP-2)",
      async () => {
        const body = signed(ground.user.key, await fresh(ground.user.key));
        const hex = String(body["signature"]).slice(2);
        const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
        const s = (order - BigInt(`0x${hex.slice(64, 128)}`)).toString(16).padStart(64, "0");
        const v = hex.slice(128) === "1b" ? "1c" : "1b";
        return { ...body, signature: `0x${hex.slice(0, 64)}${s}${v}` };
      },
    ],
    [
      "with v of 0 and 1",
      async () => {
        const body = signed(ground.user.key, await fresh(ground.user.key));
        const hex = String(body["signature"]);
        return { ...body, signature: hex.slice(0, -2) + (hex.endsWith("1b") ? "00" : "01") };
      },
    ],
    [
      "with half of a signature",
      async () => {
        const body = signed(ground.user.key, await fresh(ground.user.key));
        return { ...body, signature: String(body["signature"]).slice(0, 66) };
      },
    ],
    [
      "with zeros as a signature",
      async () => ({
        ...signed(ground.user.key, await fresh(ground.user.key)),
        signature: `0x${"00".repeat(65)}`,
      }),
    ],
    [
      "with another's Ed25519 name and one's own key",
      async () => {
        const own = generateKey("ed25519");
        const body = signed(own, await fresh(edwards.key));
        return { ...body, address: edwards.id };
      },
    ],
    [
      "with an Ed25519 signature of zeros under the key of small order",
      async () => {
        const body = signed(edwards.key, await fresh(edwards.key));
        const weak = { kty: "OKP", crv: "Ed25519", x: Buffer.alloc(32).toString("base64url") };
        return { ...body, public_key: weak, signature: Buffer.alloc(64).toString("base64url") };
      },
    ],
    [
      "with a key of another curve",
      async () => ({
        ...signed(edwards.key, await fresh(edwards.key)),
        public_key: { kty: "EC", crv: "P-256", x: "AAAA", y: "AAAA" },
      }),
    ],
    [
      "with a public key that is __proto__",
      async () => ({
        ...signed(edwards.key, await fresh(edwards.key)),
        public_key: JSON.parse('{"__proto__":{"kty":"OKP"}}'),
      }),
    ],
    ["without an account", async () => signed(stranger, await fresh(stranger))],
  ];
  test.each(cases)("%s", async (_, make) => {
    const reply = ground.refused(await login(await make()), [400, 401, 403]);
    expect(reply.body).not.toMatch(/"token"|eyJ/);
  });
});

test("whoever asks for more scopes than the account has gets those that it has", async () => {
  const asked = await signIn(ground.url, ground.user.key, "admin vm:read");
  expect(asked.scopes).toEqual(["vm:read"]);
});

describe("What another server gave is nothing here:", () => {
  test("a login that was signed for it", async () => {
    const { key } = ground.user;
    const body = signed(key, await challenge(other.url, keyId(key)));
    ground.refused(await login(body), 401);
  });

  test("its access tokens, its refresh tokens, its API tokens, its bootstrap token", async () => {
    const made = await rest(other.url, "POST", "/api/tokens", {
      token: other.user.token,
      body: { name: "ci", expires_in_seconds: 600 },
    });
    expect(made.status, made.body).toBe(200);
    const tokens = [
      other.admin.token,
      other.user.refresh,
      String(made.json.data["token"]),
      await other.server.bootstrapToken(),
    ];
    for (const token of tokens) {
      ground.refused(await rest(ground.url, "GET", "/api/auth/whoami", { token }), 401);
      ground.refused(
        await rest(ground.url, "POST", "/api/auth/refresh", { body: { refresh_token: token } }),
        401,
      );
      ground.refused(await rest(ground.url, "POST", "/api/auth/validate", { body: { token } }), 401);
    }
  });
});

describe("A refresh token", () => {
  test("that comes again after its successor was used ends the whole family, the newest access token included", async () => {
    const person = await signIn(ground.url, ground.user.key);
    const refresh = (token: string) =>
      rest(ground.url, "POST", "/api/auth/refresh", { body: { refresh_token: token } });
    const tokens = [person.token];
    let newest = person.refresh;
    for (let turn = 0; turn < 2; turn++) {
      const renewed = await refresh(newest);
      expect(renewed.status, renewed.body).toBe(200);
      tokens.push(String(renewed.json.data["token"]));
      newest = String(renewed.json.data["refresh_token"]);
    }
    ground.refused(await refresh(person.refresh), 401);
    ground.refused(await refresh(newest), 401);
    for (const token of tokens) {
      ground.refused(await rest(ground.url, "GET", "/api/auth/whoami", { token }), 401);
    }
  });

  test("is no access token, and an access token is no refresh token", async () => {
    const person = await signIn(ground.url, ground.user.key);
    ground.refused(await rest(ground.url, "GET", "/api/auth/whoami", { token: person.refresh }), 401);
    ground.refused(
      await rest(ground.url, "POST", "/api/auth/refresh", { body: { refresh_token: person.token } }),
      401,
    );
  });
});

test.each([
  ["an address in lower case", `0x${"a".repeat(40)}`, 200],
  ["an address with a wrong checksum", "0xABCDEFabcdefABCDEFabcdefABCDEFabcdefABCd", 400],
  ["a name", "vitalik.eth", 400],
  ["a line feed", "0x1\nNonce: x", 400],
  ["a thousand letters", "0x".padEnd(1000, "a"), 400],
  ["nothing", "", 400],
  ["an Ed25519 key's name", `key:${"A".repeat(43)}`, 200],
  ["an Ed25519 key's name that is too long", `key:${"A".repeat(44)}`, 400],
])("A challenge for %s", async (_, address, status) => {
  const reply = await rest(ground.url, "GET", `/api/auth/challenge?address=${encodeURIComponent(address)}`);
  expect(reply.status, reply.body).toBe(status);
});
