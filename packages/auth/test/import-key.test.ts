import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { inspect } from "node:util";
import { generateKey, importKey, KEY_KINDS, keyFromPrivate, keyId } from "@formation-mcp/auth/keys";
import { FormationError } from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const pem = (label: string, ...lines: string[]) =>
  [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");

/** What is said of a text that is no key; it must not hold the text. */
const refusal = (text: string, kind?: "ed25519" | "secp256k1"): string => {
  try {
    importKey(text, kind);
  } catch (error) {
    expect(error).toBeInstanceOf(FormationError);
    expect((error as FormationError).code).toBe("invalid");
    for (const piece of text.match(/[A-Za-z0-9+/_-]{20,}/g) ?? []) {
      expect(inspect(error, { depth: 9 })).not.toContain(piece.slice(0, 20));
    }
    return (error as FormationError).message;
  }
  return expect.fail("it was taken");
};

describe("published keys", () => {
  // RFC 8410 §10.3: the same key without and with its public half and an attribute.
  const PLAIN = pem("PRIVATE KEY", "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC");
  const WITH_PUBLIC = pem(
    "PRIVATE KEY",
    "MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC",
    "oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB",
    "Z9w7lshQhqowtrbLDFw4rXAxZuE=",
  );
  const PUBLIC = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

  it("RFC 8410's Ed25519 keys are read from PKCS#8", () => {
    expect(importKey(PLAIN).public_key).toBe(PUBLIC);
    expect(importKey(WITH_PUBLIC).public_key).toBe(PUBLIC);
    expect(importKey(PLAIN.replaceAll("\n", "\r\n"), "ed25519").public_key).toBe(PUBLIC);
  });

  it("RFC 8037's Ed25519 key is read from its JWK, and has its thumbprint as its id", () => {
    const jwk = {
      kty: "OKP",
      crv: "Ed25519",
      d: "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
      x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    };
    const key = importKey(JSON.stringify(jwk));
    expect(keyId(key)).toBe("key:kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    expect(keyId(key.publicJwk())).toBe(keyId(key));
  });

  it("32 bytes in hexadecimal are a secp256k1 key, unless it is said that they are not", () => {
    const hex = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
    expect(keyId(importKey(hex))).toBe("0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
    expect(keyId(importKey(`  0x${hex.toUpperCase()}\n`))).toBe("0x2c7536E3605D9C16a7a3D7b1898e529396a65c23");
    expect(importKey(hex, "ed25519").public_key).toBe(keyFromPrivate("ed25519", hex).public_key);
  });
});

const NODE_KEYS: Record<(typeof KEY_KINDS)[number], () => KeyObject> = {
  ed25519: () => generateKeyPairSync("ed25519").privateKey,
  secp256k1: () => generateKeyPairSync("ec", { namedCurve: "secp256k1" }).privateKey,
};

describe.each(KEY_KINDS)("a %s key that OpenSSL made", (kind) => {
  it("is the same key as PKCS#8, as JWK and as hexadecimal digits", () => {
    for (let round = 0; round < 20; round++) {
      const made = NODE_KEYS[kind]();
      const jwk = made.export({ format: "jwk" });
      const id = keyId(importKey(JSON.stringify(jwk)));
      const { d: _, ...half } = jwk;
      expect(keyId(half as never)).toBe(id);
      expect(keyId(importKey(String(made.export({ format: "pem", type: "pkcs8" })), kind))).toBe(id);
      const hex = Buffer.from(String(jwk.d), "base64url").toString("hex");
      expect(keyId(importKey(hex, kind))).toBe(id);
    }
  });

  it("is not taken as one of the other kind", () => {
    const text = String(NODE_KEYS[kind]().export({ format: "pem", type: "pkcs8" }));
    expect(refusal(text, kind === "ed25519" ? "secp256k1" : "ed25519")).toMatch(/not a/);
  });

  it("is not taken with another key's public half", () => {
    const [one, other] = [NODE_KEYS[kind](), NODE_KEYS[kind]()].map((key) => key.export({ format: "jwk" }));
    expect(refusal(JSON.stringify({ ...other, d: one?.d }))).toMatch(/public half/);
  });
});

it("SEC 1 is read for secp256k1, with the parameters' block that OpenSSL puts before it", () => {
  const made = NODE_KEYS.secp256k1();
  const sec1 = String(made.export({ format: "pem", type: "sec1" }));
  const id = keyId(importKey(JSON.stringify(made.export({ format: "jwk" }))));
  expect(keyId(importKey(sec1))).toBe(id);
  expect(keyId(importKey(pem("EC PARAMETERS", "BgUrgQQACg==") + sec1))).toBe(id);
});

describe("no key is read from", () => {
  const hex = "11".repeat(32);
  const of = (type: "ec" | "rsa" | "x25519" | "ed448") => {
    if (type === "ec") return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    if (type === "rsa") return generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
    return type === "x25519"
      ? generateKeyPairSync("x25519").privateKey
      : generateKeyPairSync("ed448").privateKey;
  };
  const sealed = String(
    NODE_KEYS.secp256k1().export({
      format: "pem",
      type: "pkcs8",
      cipher: "aes-256-cbc",
      passphrase: "secret",
    }),
  );
  const good = String(NODE_KEYS.ed25519().export({ format: "pem", type: "pkcs8" }));
  const jwk = NODE_KEYS.ed25519().export({ format: "jwk" });

  it.each<[string, string]>([
    ["nothing", ""],
    ["half a key", hex.slice(2)],
    ["digits and something else", `${hex} # my key`],
    ["zero", "0".repeat(64)],
    ["a number beyond the curve's order", "f".repeat(64)],
    ["a key of another curve", String(of("ec").export({ format: "pem", type: "pkcs8" }))],
    ["SEC 1 of another curve", String(of("ec").export({ format: "pem", type: "sec1" }))],
    ["an RSA key", String(of("rsa").export({ format: "pem", type: "pkcs8" }))],
    ["an X25519 key", String(of("x25519").export({ format: "pem", type: "pkcs8" }))],
    ["an Ed448 key", String(of("ed448").export({ format: "pem", type: "pkcs8" }))],
    ["a sealed key", sealed],
    ["an OpenSSH key", pem("OPENSSH PRIVATE KEY", "b3BlbnNzaC1rZXktdjEAAAAA")],
    ["a public key", pem("PUBLIC KEY", "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=")],
    ["two keys", good + good],
    ["a cut one", good.replace(/.{12}\n-----END/, "\n-----END")],
    [
      "one with something after it",
      pem("PRIVATE KEY", "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhCAAA="),
    ],
    ["a public JWK", JSON.stringify({ ...jwk, d: undefined })],
    ["a JWK of another curve", JSON.stringify(of("ec").export({ format: "jwk" }))],
    ["a JWK with a short d", JSON.stringify({ ...jwk, d: "AAAA" })],
    ["a JWK with a padded d", JSON.stringify({ ...jwk, d: `${jwk.d}=` })],
    ["broken JSON", `{"kty":"OKP","crv":"Ed25519","d":"${jwk.d}"`],
    ["twenty kilobytes", "1".repeat(20_000)],
  ])("%s", (_, text) => {
    refusal(text);
  });

  it("bytes that chance made: an error of ours, and no key that was not there", () => {
    const der = Buffer.from(good.split("\n").slice(1, -2).join(""), "base64");
    fc.assert(
      fc.property(fc.nat(der.length - 1), fc.nat(255), (at, value) => {
        const copy = Buffer.from(der);
        // Byte 4 is the version: 1 is as good as 0 (RFC 5958 §2).
        const changes = copy[at] !== value && !(at === 4 && value === 1);
        copy[at] = value;
        const text = pem("PRIVATE KEY", copy.toString("base64"));
        if (changes && at < 16) refusal(text);
        else expect(importKey(text).kind).toBe("ed25519");
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        refusal(pem("PRIVATE KEY", Buffer.from(bytes).toString("base64")));
        refusal(pem("EC PRIVATE KEY", Buffer.from(bytes).toString("base64")));
      }),
      { numRuns: 300 },
    );
  });
});

it("a key's id is refused for coordinates that are no point", () => {
  const { x } = generateKey("secp256k1").publicJwk();
  expect(() => keyId({ kty: "EC", crv: "secp256k1", x, y: x })).toThrow(FormationError);
});
