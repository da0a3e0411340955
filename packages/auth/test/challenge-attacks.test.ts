import type { Authority, SignedMessage } from "@formation-mcp/auth/authority";
import { generateKey, type KeyPair, keyId, parseSignInMessage, signMessage } from "@formation-mcp/auth/keys";
import type { FormationError } from "@formation-mcp/contract";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MINUTE, outcome, SECOND, signed, told, type World, world } from "./support/world.ts";

interface Scene {
  world: World;
  authority: Authority;
  wallet: KeyPair;
  agent: KeyPair;
  /** A fresh challenge's text. */
  challenge(key: KeyPair): Promise<string>;
}

async function scene(atEnd?: (close: () => Promise<void>) => void): Promise<Scene> {
  const here = await world(atEnd);
  const { authority, admin } = await here.founded();
  const agent = generateKey("ed25519");
  await authority.admit(told(agent), new Set(["vm:read"] as const));
  return {
    world: here,
    authority,
    wallet: admin,
    agent,
    challenge: async (key) => (await authority.challenge({ address: keyId(key) })).message,
  };
}

const stranger = generateKey("ed25519");
const mirrored = (signature: string): string => {
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
  const s = (order - BigInt(`0x${signature.slice(66, 130)}`)).toString(16).padStart(64, "0");
  return signature.slice(0, 66) + s + (signature.endsWith("1b") ? "1c" : "1b");
};

type Attack = [what: string, end: "unauthenticated" | "invalid", make: (s: Scene) => Promise<unknown>];

/** A genuine signed challenge of the wallet or of the agent, then changed. */
const changed =
  (who: "wallet" | "agent", alter: (answer: SignedMessage, s: Scene) => unknown) => async (s: Scene) =>
    alter(await signed(s.authority, s[who]), s);
/** A text made from a genuine challenge, and then signed. */
const resigned = (who: "wallet" | "agent", alter: (text: string, s: Scene) => string) => async (s: Scene) =>
  signMessage(s[who], alter(await s.challenge(s[who]), s));

const ATTACKS: Attack[] = [
  ["a text of the signer's own", "unauthenticated", async (s) => signMessage(s.wallet, "let me in")],
  [
    "a challenge with another nonce",
    "unauthenticated",
    resigned("wallet", (t) => t.replace(/Nonce: .*/, `Nonce: ${"0".repeat(32)}`)),
  ],
  [
    "a later end",
    "unauthenticated",
    resigned("wallet", (t) => t.replace(/(Expiration Time: )\d{4}/, "$12099")),
  ],
  ["no end", "unauthenticated", resigned("wallet", (t) => t.replace(/\nExpiration Time: .*/, ""))],
  [
    "another domain",
    "unauthenticated",
    resigned("wallet", (t) => t.replace("vm.example.org wants", "evil.example wants")),
  ],
  [
    "another URI",
    "unauthenticated",
    resigned("wallet", (t) => t.replace("URI: https://vm.example.org", "URI: https://evil.example")),
  ],
  ["another chain", "unauthenticated", resigned("wallet", (t) => t.replace("Chain ID: 1", "Chain ID: 5"))],
  ["a statement put in", "unauthenticated", resigned("wallet", (t) => t.replace("\n\n\n", "\n\nhello\n\n"))],
  ["resources put in", "unauthenticated", resigned("wallet", (t) => `${t}\nResources:\n- https://x.org`)],
  ["a line end at its end", "unauthenticated", resigned("wallet", (t) => `${t}\n`)],
  ["Windows line ends", "unauthenticated", resigned("wallet", (t) => t.replaceAll("\n", "\r\n"))],
  [
    "an address in lower case",
    "unauthenticated",
    resigned("wallet", (t, s) => t.replace(keyId(s.wallet), keyId(s.wallet).toLowerCase())),
  ],
  [
    "the agent's challenge, rewritten for the wallet",
    "unauthenticated",
    async (s) => {
      const text = (await s.challenge(s.agent))
        .replace(keyId(s.agent), keyId(s.wallet))
        .replace("Ed25519", "Ethereum");
      return signMessage(s.wallet, text);
    },
  ],
  [
    "another wallet's signature",
    "unauthenticated",
    async (s) => signMessage(generateKey("secp256k1"), await s.challenge(s.wallet)),
  ],
  [
    "another agent's signature under the agent's key",
    "unauthenticated",
    async (s) => ({
      ...signMessage(generateKey("ed25519"), await s.challenge(s.agent)),
      publicKey: s.agent.publicJwk(),
    }),
  ],
  [
    "another agent's signature and key",
    "unauthenticated",
    async (s) => signMessage(generateKey("ed25519"), await s.challenge(s.agent)),
  ],
  [
    "the agent's own signature with another key beside it",
    "unauthenticated",
    changed("agent", (a) => ({ ...a, publicKey: stranger.publicJwk() })),
  ],
  [
    "a stranger's key and signature, in an object that says it is the agent's",
    "unauthenticated",
    async (s) => {
      const { thumbprint, public_key } = s.agent;
      const claims = { public_key, thumbprint, address: null, kind: "ed25519" };
      const answer = signMessage(stranger, await s.challenge(s.agent));
      return { ...answer, publicKey: { ...stranger.publicJwk(), ...claims } };
    },
  ],
  [
    "a stranger's x and the agent's names without a kty",
    "unauthenticated",
    async (s) => {
      const answer = signMessage(stranger, await s.challenge(s.agent));
      return { ...answer, publicKey: { x: stranger.publicJwk().x, ...s.agent.toJSON() } };
    },
  ],
  [
    "the wallet's challenge signed by the agent",
    "invalid",
    async (s) => signMessage(s.agent, await s.challenge(s.wallet)),
  ],
  [
    "the mirrored signature (high s)",
    "unauthenticated",
    changed("wallet", (a) => ({ ...a, signature: mirrored(a.signature) })),
  ],
  [
    "v as 0 or 1",
    "unauthenticated",
    changed("wallet", (a) => ({
      ...a,
      signature: a.signature.slice(0, -2) + (a.signature.endsWith("1b") ? "00" : "01"),
    })),
  ],
  [
    "a signature of zeros",
    "unauthenticated",
    changed("wallet", (a) => ({ ...a, signature: `0x${"00".repeat(65)}` })),
  ],
  [
    "an Ed25519 signature of zeros",
    "unauthenticated",
    changed("agent", (a) => ({ ...a, signature: "A".repeat(86) })),
  ],
  ["a cut signature", "invalid", changed("wallet", (a) => ({ ...a, signature: a.signature.slice(0, -2) }))],
  [
    "a signature with bytes after it",
    "invalid",
    changed("wallet", (a) => ({ ...a, signature: `${a.signature}00` })),
  ],
  ["an empty signature", "invalid", changed("wallet", (a) => ({ ...a, signature: "" }))],
  [
    "an Ed25519 signature in its second spelling",
    "invalid",
    changed("agent", (a) => ({
      ...a,
      signature: `${a.signature.slice(0, -1)}${a.signature.endsWith("A") ? "B" : String.fromCharCode(a.signature.charCodeAt(85) + 1)}`,
    })),
  ],
  [
    "a public key of another curve",
    "invalid",
    changed("agent", (a) => ({ ...a, publicKey: { kty: "EC", crv: "P-256", x: "A", y: "B" } })),
  ],
  ["a public key that is a text", "invalid", changed("agent", (a) => ({ ...a, publicKey: "key" }))],
  [
    "the identity element as public key",
    "unauthenticated",
    changed("agent", (a) => ({ ...a, publicKey: { kty: "OKP", crv: "Ed25519", x: `AQ${"A".repeat(41)}` } })),
  ],
  ["no message", "invalid", changed("wallet", (a) => ({ signature: a.signature }))],
  ["a message that is a list", "invalid", changed("wallet", (a) => ({ ...a, message: [a.message] }))],
  [
    "a signature that is an object",
    "invalid",
    changed("wallet", (a) => ({ ...a, signature: { length: 132 } })),
  ],
  ["nothing", "invalid", async () => undefined],
  ["null", "invalid", async () => null],
  [
    "a megabyte",
    "unauthenticated",
    async (s) => ({
      message: "x".repeat(2 ** 20),
      signature: (await signed(s.authority, s.wallet)).signature,
    }),
  ],
  [
    "a megabyte of signature",
    "invalid",
    changed("wallet", (a) => ({ ...a, signature: "0".repeat(2 ** 20) })),
  ],
];

describe("a sign-in is refused", () => {
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

  it.each(ATTACKS)("with %s", async (_, end, make) => {
    expect(await outcome(s.authority.signIn((await make(s)) as SignedMessage))).toBe(end);
    expect(await outcome(s.authority.signIn(await signed(s.authority, s.wallet)))).toBe("ok");
  });

  it("whatever a caller sends", async () => {
    const anything = fc.oneof(fc.anything(), fc.record({ message: fc.string(), signature: fc.string() }));
    await fc.assert(
      fc.asyncProperty(anything, async (junk) => {
        expect(["invalid", "unauthenticated"]).toContain(
          await outcome(s.authority.verify(junk as SignedMessage)),
        );
      }),
      { numRuns: 200 },
    );
  });
});

describe("a challenge", () => {
  it("is accepted by one of many servers that get the same signed challenge at once", async () => {
    const { world: here, wallet } = await scene();
    const servers = await Promise.all([here.server(), here.server(), here.server()]);
    const answer = await signed(servers[0] as Authority, wallet);
    const ends = await Promise.all(
      [...servers, ...servers].map((authority) => outcome(authority.signIn(answer))),
    );
    expect(ends.filter((end) => end === "ok")).toHaveLength(1);
    expect(ends.filter((end) => end === "unauthenticated")).toHaveLength(5);
  });

  it("is used up by a wrong signature too", async () => {
    const { authority, wallet } = await scene();
    const answer = await signed(authority, wallet);
    const wrong = { ...answer, signature: signMessage(generateKey("secp256k1"), answer.message).signature };
    expect(await outcome(authority.signIn(wrong))).toBe("unauthenticated");
    expect(await outcome(authority.signIn(answer))).toBe("unauthenticated");
  });

  it("is accepted in any order of several challenges", async () => {
    const { authority, wallet } = await scene();
    const answers = await Promise.all([0, 1, 2, 3].map(() => signed(authority, wallet)));
    for (const answer of answers.reverse()) expect(await outcome(authority.signIn(answer))).toBe("ok");
    for (const answer of answers) expect(await outcome(authority.signIn(answer))).toBe("unauthenticated");
  });

  it("expires after five minutes", async () => {
    const { authority, wallet, world: here } = await scene();
    const [early, late] = [await signed(authority, wallet), await signed(authority, wallet)];
    here.clock.time += 5 * MINUTE - SECOND;
    expect(await outcome(authority.signIn(early))).toBe("ok");
    here.clock.time += SECOND;
    expect(await outcome(authority.signIn(late))).toBe("unauthenticated");
  });

  it("is accepted only by the server that issued it", async () => {
    const [one, two] = [await scene(), await scene()];
    const answer = await signed(one.authority, one.wallet);
    await two.authority.admit(told(one.wallet), new Set(["vm:read"] as const));
    expect(await outcome(two.authority.signIn(answer))).toBe("unauthenticated");
    expect(await outcome(one.authority.signIn(answer))).toBe("ok");
  });
});

it("an agent's known key need not be sent again, and a hexadecimal signature is as good", async () => {
  const { authority, agent } = await scene();
  const { message, signature } = await signed(authority, agent);
  expect(await outcome(authority.signIn({ message, signature }))).toBe("ok");
  const next = await signed(authority, agent);
  const hex = Buffer.from(next.signature, "base64url").toString("hex");
  expect(await outcome(authority.signIn({ message: next.message, signature: hex }))).toBe("ok");
});

it("who can't sign for an agent's key does not learn whether it has an account", async () => {
  const { authority, agent } = await scene();
  const told = async (key: typeof agent, signature: string) => {
    const { message } = await authority.challenge({ address: keyId(key) });
    const error = await authority.verify({ message, signature }).catch((thrown: unknown) => thrown);
    return (error as FormationError).toRecord();
  };
  for (const forged of ["A".repeat(86), "", "no signature", "00".repeat(64)]) {
    const known = await told(agent, forged);
    expect(known.code).toBe("unauthenticated");
    expect(await told(generateKey("ed25519"), forged)).toEqual(known);
  }
});

it("nonces do not repeat", async () => {
  const { authority, wallet } = await scene();
  const nonces = new Set<string>();
  for (let count = 0; count < 100; count++) {
    const { message } = await authority.challenge({ address: keyId(wallet) });
    nonces.add(parseSignInMessage(message).nonce);
  }
  expect(nonces.size).toBe(100);
});
