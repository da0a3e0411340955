import { inspect } from "node:util";
import {
  checksumAddress,
  generateKey,
  jwkThumbprint,
  KEY_KINDS,
  type KeyPair,
  keyFromPrivate,
  recoverAddress,
  verifyEd25519,
  verifyPersonal,
} from "@formation-mcp/auth/keys";
import { FormationError } from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const RUNS = { numRuns: 40 };
const fromHex = (hex: string) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const keyOf = (kind: (typeof KEY_KINDS)[number]) =>
  fc
    .uint8Array({ minLength: 32, maxLength: 32 })
    .filter((seed) => seed[0] !== 0 && seed[0] !== 255)
    .map((seed) => generateKey(kind, () => seed));
const message = fc.uint8Array({ maxLength: 200 });

/** Flips one bit. */
const flipped = (value: Uint8Array, bit: number): Uint8Array => {
  const copy = Uint8Array.from(value);
  const at = Math.floor(bit / 8) % copy.length;
  copy[at] = (copy[at] ?? 0) ^ (1 << (bit % 8));
  return copy;
};

const verifies = (pair: KeyPair, text: Uint8Array, signature: Uint8Array): boolean =>
  pair.address === null
    ? verifyEd25519(fromHex(pair.public_key), text, signature)
    : verifyPersonal(pair.address, text, signature);

/** What an action does: its result, or the code of its FormationError. Anything else thrown is a failure. */
const outcome = (action: () => unknown): unknown => {
  try {
    return action();
  } catch (error) {
    if (error instanceof FormationError) return error.code;
    throw error;
  }
};

describe.each(KEY_KINDS)("a %s key", (kind) => {
  it("verifies what it signed, and signs the same bytes the same way", () => {
    fc.assert(
      fc.property(keyOf(kind), message, (pair, text) => {
        const signature = pair.sign(text);
        expect(verifies(pair, text, signature)).toBe(true);
        expect(pair.sign(text)).toEqual(signature);
      }),
      RUNS,
    );
  });

  it("never verifies a signature in which one bit changed", () => {
    fc.assert(
      fc.property(keyOf(kind), message, fc.nat(519), (pair, text, bit) => {
        expect(verifies(pair, text, flipped(pair.sign(text), bit))).toBe(false);
      }),
      RUNS,
    );
  });

  it("never verifies a message that it did not sign", () => {
    fc.assert(
      fc.property(keyOf(kind), message, message, (pair, text, other) => {
        fc.pre(text.toString() !== other.toString());
        expect(verifies(pair, other, pair.sign(text))).toBe(false);
      }),
      RUNS,
    );
  });

  it("never verifies another key's signature", () => {
    fc.assert(
      fc.property(keyOf(kind), keyOf(kind), message, (pair, other, text) => {
        fc.pre(pair.public_key !== other.public_key);
        expect(verifies(pair, text, other.sign(text))).toBe(false);
      }),
      RUNS,
    );
  });

  it("comes back from its private half", () => {
    fc.assert(
      fc.property(keyOf(kind), (pair) => {
        expect(keyFromPrivate(kind, pair.revealPrivate()).toJSON()).toEqual(pair.toJSON());
        expect(keyFromPrivate(kind, `0x${pair.revealPrivate().toUpperCase()}`).public_key).toBe(
          pair.public_key,
        );
      }),
      RUNS,
    );
  });

  it("shows its private half to nobody who does not ask for it by name", () => {
    const pair = generateKey(kind);
    const secret = pair.revealPrivate();
    const shown = [
      JSON.stringify({ pair }),
      String(pair),
      `${pair}`,
      inspect(pair, { depth: 9, showHidden: true, getters: true }),
      JSON.stringify({ ...pair }),
      JSON.stringify(Object.entries(pair)),
      JSON.stringify(pair.publicJwk()),
      inspect(structuredClone({ ...pair.toJSON() })),
    ];
    for (const text of shown) {
      expect(text).not.toContain(secret);
      expect(text).not.toContain(secret.slice(0, 16));
      expect(text).not.toContain(fromHex(secret).slice(0, 8).join(","));
      expect(text).not.toContain(fromHex(secret).slice(0, 8).join(", "));
    }
  });

  it("does not change when the bytes it was made from do", () => {
    const seed = new Uint8Array(32).fill(7);
    const pair = generateKey(kind, () => seed);
    const before = pair.sign(seed.slice());
    seed.fill(9);
    expect(pair.sign(new Uint8Array(32).fill(7))).toEqual(before);
  });

  it("has a thumbprint that is its own JSON's", () => {
    const pair = generateKey(kind);
    expect(pair.thumbprint).toBe(jwkThumbprint(pair.publicJwk()));
    expect(pair.thumbprint).toMatch(/^[\w-]{43}$/);
  });
});

describe("signatures have one spelling", () => {
  const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

  it("the mirrored signature (n − s, other v) is refused", () => {
    const pair = generateKey("secp256k1");
    const text = Uint8Array.of(1, 2, 3);
    const signature = pair.sign(text);
    const s = BigInt(
      `0x${[...signature.slice(32, 64)].map((b) => b.toString(16).padStart(2, "0")).join("")}`,
    );
    const mirrored = Uint8Array.from([
      ...signature.slice(0, 32),
      ...fromHex((ORDER - s).toString(16).padStart(64, "0")),
      signature[64] === 27 ? 28 : 27,
    ]);
    expect(verifyPersonal(pair.address ?? "", text, mirrored)).toBe(false);
    expect(() => recoverAddress(text, mirrored)).toThrow(FormationError);
  });

  it("v as 0 or 1 is refused", () => {
    const pair = generateKey("secp256k1");
    const signature = pair.sign(Uint8Array.of());
    signature[64] = (signature[64] ?? 0) - 27;
    expect(verifyPersonal(pair.address ?? "", Uint8Array.of(), signature)).toBe(false);
  });

  it("the small-order Ed25519 keys, whose signatures fit any message, verify nothing", () => {
    const identity = new Uint8Array(32);
    identity[0] = 1;
    const signature = new Uint8Array(64);
    signature[0] = 1;
    expect(verifyEd25519(identity, Uint8Array.of(5), signature)).toBe(false);
  });
});

describe("malformed input", () => {
  const junk = fc.oneof(fc.string(), fc.anything());

  it("ends in an invalid FormationError or in an answer, whatever it is", () => {
    const pair = generateKey("secp256k1");
    const invalidOr = (...answers: unknown[]) => [...answers, "invalid"];
    fc.assert(
      fc.property(junk, junk, junk, (a, b, c) => {
        expect(invalidOr(true, false)).toContain(
          outcome(() => verifyEd25519(a as never, b as never, c as never)),
        );
        expect(invalidOr(true, false)).toContain(
          outcome(() => verifyPersonal(a as never, b as never, c as never)),
        );
        expect(outcome(() => recoverAddress(a as never, b as never))).toBe("invalid");
        expect(outcome(() => jwkThumbprint(a as never))).toBe("invalid");
        expect(outcome(() => keyFromPrivate(a as never, b as never))).toBe("invalid");
        expect(outcome(() => keyFromPrivate("ed25519", b as never))).toBe("invalid");
        expect(outcome(() => generateKey("secp256k1", (() => a) as never))).toBe("invalid");
        expect(outcome(() => checksumAddress(a as never))).toBe("invalid");
        if (!(a instanceof Uint8Array)) expect(outcome(() => pair.sign(a as never))).toBe("invalid");
      }),
      { numRuns: 200 },
    );
  });

  it("of the right length never throws: it just does not verify", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        message,
        fc.uint8Array({ minLength: 65, maxLength: 65 }),
        (key, text, signature) => {
          expect(verifyEd25519(key, text, signature.slice(0, 64))).toBe(false);
          expect(verifyPersonal("0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf", text, signature)).toBe(false);
        },
      ),
      RUNS,
    );
  });

  it("is never repeated in the error: it may be a private key", () => {
    const secret = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f3623";
    try {
      keyFromPrivate("secp256k1", secret);
      expect.unreachable();
    } catch (error) {
      expect(inspect(error, { depth: 9 })).not.toContain(secret.slice(0, 16));
    }
  });

  it.each(["0".repeat(64), "f".repeat(64)])("%s is no secp256k1 key", (hex) => {
    expect(() => keyFromPrivate("secp256k1", hex)).toThrow(/no secp256k1 private key/);
  });

  it("an address with one letter's case changed is refused", () => {
    expect(() => checksumAddress("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed")).toThrow(/checksum/);
  });

  it("randomness that gives no key ends, instead of being asked for ever", () => {
    expect(outcome(() => generateKey("secp256k1", (length) => new Uint8Array(length)))).toBe("invalid");
  });
});
