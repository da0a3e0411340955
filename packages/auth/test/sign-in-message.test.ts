import {
  formatSignInMessage,
  generateKey,
  KEY_KINDS,
  keyFromPrivate,
  keyId,
  parseSignInMessage,
  readChallenge,
  type SignInMessage,
  signMessage,
  verifyMessage,
} from "@formation-mcp/auth/keys";
import { FormationError } from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const HEAD = "service.org wants you to sign in with your Ethereum account:";
const ADDRESS = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2";
const STATEMENT = "I accept the ServiceOrg Terms of Service: https://service.org/tos";
const BODY = ["URI: https://service.org/login", "Version: 1", "Chain ID: 1", "Nonce: 32891756"];
const ISSUED = "Issued At: 2021-09-30T16:25:24Z";
const lines = (...parts: (string | string[])[]) => parts.flat().join("\n");

/** https://eips.ethereum.org/EIPS/eip-4361, "Example message". */
const EXAMPLE = lines(HEAD, ADDRESS, "", STATEMENT, "", BODY, ISSUED, [
  "Resources:",
  "- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/",
  "- https://example.com/my-web2-claim.json",
]);

const isInvalid = (action: () => unknown): void => {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(FormationError);
    expect((error as FormationError).code).toBe("invalid");
    return;
  }
  expect.fail("it was taken");
};

describe("published messages", () => {
  it("the example of EIP-4361 is read field by field, and spelt as it stands there", () => {
    const fields = parseSignInMessage(EXAMPLE);
    expect(fields).toEqual({
      kind: "secp256k1",
      domain: "service.org",
      address: ADDRESS,
      statement: STATEMENT,
      uri: "https://service.org/login",
      chainId: "1",
      nonce: "32891756",
      issuedAt: "2021-09-30T16:25:24Z",
      resources: [
        "ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/",
        "https://example.com/my-web2-claim.json",
      ],
    });
    expect(formatSignInMessage(fields)).toBe(EXAMPLE);
  });

  it("a message that a wallet signed for the reference implementation verifies (EIP-191 over EIP-4361)", () => {
    const message = formatSignInMessage({
      kind: "secp256k1",
      domain: "login.xyz",
      address: "0x9D85ca56217D2bb651b00f15e694EB7E713637D4",
      statement: "Sign-In With Ethereum Example Statement",
      uri: "https://login.xyz",
      chainId: "1",
      nonce: "bTyXgcQxn2htgkjJn",
      issuedAt: "2022-01-27T17:09:38.578Z",
      expirationTime: "2100-01-07T14:31:43.952Z",
    });
    const signature =
      "0xdc35c7f8ba2720df052e0092556456127f00f7707eaa8e3bbff7e56774e7f2e05a093cfc9e02964c33d86e8e066e221b7d153d27e5a2e97ccd5ca7d3f2ce06cb1b";
    expect(verifyMessage("0x9D85ca56217D2bb651b00f15e694EB7E713637D4", null, message, signature)).toBe(true);
    expect(verifyMessage("0x9D85ca56217D2bb651b00f15e694EB7E713637D4", null, `${message} `, signature)).toBe(
      false,
    );
    expect(verifyMessage(ADDRESS, null, message, signature)).toBe(false);
  });

  it.each([
    ["an address with a port", "127.0.0.1:8080"],
    ["user information", "test@127.0.0.1"],
    ["a plain address", "127.0.0.1"],
  ])("the domain may be %s", (_, domain) => {
    const text = EXAMPLE.replace("service.org wants", `${domain} wants`);
    expect(parseSignInMessage(text).domain).toBe(domain);
  });

  it("a message without a statement has two empty lines", () => {
    const text = lines(HEAD, ADDRESS, "", "", BODY, ISSUED);
    expect(parseSignInMessage(text)).not.toHaveProperty("statement");
    expect(formatSignInMessage(parseSignInMessage(text))).toBe(text);
  });

  it("an Ed25519 key has the same layout (CAIP-122)", () => {
    const key = keyFromPrivate("ed25519", "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    const text = lines(
      "service.org wants you to sign in with your Ed25519 account:",
      "key:kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
      "",
      "",
      BODY,
      ISSUED,
    );
    expect(parseSignInMessage(text)).toMatchObject({ kind: "ed25519", address: keyId(key) });
    expect(formatSignInMessage(parseSignInMessage(text))).toBe(text);
  });
});

const uri = fc.webUrl({ withQueryParameters: true }).filter((url) => /^[\x21-\x7e]*$/.test(url));
const time = fc
  .date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true })
  .map((date) => date.toISOString());
const statement = fc.stringMatching(/^[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;= ]{0,80}$/);
const identity = fc.constantFrom(...KEY_KINDS).map((kind) => {
  const key = generateKey(kind);
  return { kind, address: keyId(key) };
});
const message: fc.Arbitrary<SignInMessage> = fc
  .tuple(
    identity,
    fc.record({
      domain: fc.domain(),
      uri,
      chainId: fc.nat().map(String),
      nonce: fc.stringMatching(/^[A-Za-z0-9]{8,40}$/),
      issuedAt: time,
    }),
    fc.record(
      {
        statement,
        expirationTime: time,
        notBefore: time,
        requestId: fc.stringMatching(/^[A-Za-z0-9._~-]{0,20}$/),
        resources: fc.array(uri, { maxLength: 5 }),
      },
      { requiredKeys: [] },
    ),
  )
  .map(([who, required, optional]) => ({ ...who, ...required, ...optional }));

describe("a message", () => {
  it("is read as it was spelt", () => {
    fc.assert(
      fc.property(message, (fields) => {
        expect(parseSignInMessage(formatSignInMessage(fields))).toEqual(fields);
      }),
      { numRuns: 200 },
    );
  });

  it("that is read at all is spelt again byte for byte, also after any line or character of it was changed", () => {
    const edited = fc
      .tuple(message, fc.nat(400), fc.nat(3), fc.string({ unit: "binary", maxLength: 3 }))
      .map(([fields, at, drop, add]) => {
        const text = formatSignInMessage(fields);
        const place = at % text.length;
        return text.slice(0, place) + add + text.slice(place + drop);
      });
    fc.assert(
      fc.property(fc.oneof(edited, fc.string()), (text) => {
        let fields: SignInMessage;
        try {
          fields = parseSignInMessage(text);
        } catch (error) {
          expect((error as FormationError).code).toBe("invalid");
          return;
        }
        expect(formatSignInMessage(fields)).toBe(text);
      }),
      { numRuns: 1000 },
    );
  });

  it("signs and verifies with a key of either kind, and never for another message", () => {
    fc.assert(
      fc.property(fc.constantFrom(...KEY_KINDS), fc.string(), fc.string(), (kind, text, other) => {
        const key = generateKey(kind);
        const { signature, publicKey = null } = signMessage(key, text);
        expect(verifyMessage(keyId(key), publicKey, text, signature)).toBe(true);
        if (other !== text) expect(verifyMessage(keyId(key), publicKey, other, signature)).toBe(false);
      }),
      { numRuns: 30 },
    );
  });
});

const REFUSED: [what: string, text: string][] = [
  ["nothing", ""],
  ["a text that is no message", "please sign this"],
  ["Windows line ends", EXAMPLE.replaceAll("\n", "\r\n")],
  ["a line end after the last line", `${EXAMPLE}\n`],
  ["a space before it", ` ${EXAMPLE}`],
  ["no domain", EXAMPLE.replace("service.org wants", " wants")],
  ["a path in the domain", EXAMPLE.replace("service.org wants", "service.org/x wants")],
  ["a domain with a control character", EXAMPLE.replace("service.org wants", "service.org\u0007 wants")],
  ["a domain in other letters", EXAMPLE.replace("service.org wants", "sеrvice.org wants")],
  ["another ecosystem", EXAMPLE.replace("Ethereum", "Solana")],
  ["the wrong case", EXAMPLE.replace("wants you", "Wants you")],
  ["an address in lower case", EXAMPLE.replace(ADDRESS, ADDRESS.toLowerCase())],
  ["an address with a wrong checksum", EXAMPLE.replace("0xC02aaA39", "0xc02aaA39")],
  ["a short address", EXAMPLE.replace(ADDRESS, ADDRESS.slice(0, -1))],
  ["an Ed25519 id in an Ethereum message", EXAMPLE.replace(ADDRESS, `key:${"A".repeat(43)}`)],
  ["an address in an Ed25519 message", EXAMPLE.replace("Ethereum", "Ed25519")],
  ["no empty line after the address", EXAMPLE.replace(`${ADDRESS}\n\n`, `${ADDRESS}\n`)],
  ["no empty line after the statement", EXAMPLE.replace(`${STATEMENT}\n\n`, `${STATEMENT}\n`)],
  ["one empty line too many before the statement", EXAMPLE.replace(`\n${STATEMENT}`, `\n\n${STATEMENT}`)],
  ["a statement of two lines", EXAMPLE.replace(STATEMENT, "one\ntwo")],
  ["a quotation mark in the statement", EXAMPLE.replace("Terms", '"Terms"')],
  ["a letter beyond ASCII in the statement", EXAMPLE.replace("Terms", "Tèrms")],
  ["a direction mark in the statement", EXAMPLE.replace("Terms", "\u202eTerms")],
  ["no URI", EXAMPLE.replace("URI: https://service.org/login\n", "")],
  ["a URI without a scheme", EXAMPLE.replace("URI: https://service.org/login", "URI: service.org")],
  ["a space in the URI", EXAMPLE.replace("/login", "/log in")],
  ["another version", EXAMPLE.replace("Version: 1", "Version: 2")],
  ["no version", EXAMPLE.replace("Version: 1\n", "")],
  ["a chain that is no number", EXAMPLE.replace("Chain ID: 1", "Chain ID: 0x1")],
  ["no chain", EXAMPLE.replace("Chain ID: 1\n", "")],
  ["a nonce of seven characters", EXAMPLE.replace("32891756", "3289175")],
  ["a nonce with a dash", EXAMPLE.replace("32891756", "3289-1756")],
  ["no nonce", EXAMPLE.replace("Nonce: 32891756\n", "")],
  ["two nonces", EXAMPLE.replace("Nonce: 32891756", "Nonce: 32891756\nNonce: 32891757")],
  ["fields in another order", EXAMPLE.replace("Version: 1\nChain ID: 1", "Chain ID: 1\nVersion: 1")],
  ["no time of issue", EXAMPLE.replace(`${ISSUED}\n`, "")],
  ["a time as people write it", EXAMPLE.replace("2021-09-30T16:25:24Z", "Wed Oct 05 2011 16:48:00 GMT+0200")],
  ["a time without a zone", EXAMPLE.replace("16:25:24Z", "16:25:24")],
  ["a time that never was", EXAMPLE.replace("2021-09-30", "2021-13-30")],
  ["an end that is no time", EXAMPLE.replace(ISSUED, `${ISSUED}\nExpiration Time: never`)],
  [
    "times in another order",
    EXAMPLE.replace(
      ISSUED,
      `${ISSUED}\nNot Before: 2021-09-30T16:25:24Z\nExpiration Time: 2021-09-30T16:25:24Z`,
    ),
  ],
  ["a space in the request's id", EXAMPLE.replace(ISSUED, `${ISSUED}\nRequest ID: a b`)],
  ["a field that does not exist", EXAMPLE.replace(ISSUED, `${ISSUED}\nAdmin: yes`)],
  ["a resource without its dash", EXAMPLE.replace("- ipfs", "ipfs")],
  ["a resource that is no URI", EXAMPLE.replace("- ipfs://", "- _")],
  ["two resources in a line", EXAMPLE.replace("claim.json", "claim.json - https://x.org")],
  ["a field after the resources", `${EXAMPLE}\nRequest ID: x`],
  ["eight kilobytes and more", EXAMPLE.replace("claim.json", "c".repeat(9000))],
];

describe("a message is refused", () => {
  it.each(REFUSED)("with %s", (_, text) => {
    expect(text).not.toBe(EXAMPLE);
    isInvalid(() => parseSignInMessage(text));
  });

  it("if its fields would make another message than they say", () => {
    const fields = parseSignInMessage(EXAMPLE);
    for (const bad of [
      { statement: "one\n\nURI: https://evil.example" },
      { domain: "service.org wants you to sign in with your Ethereum account:\n" },
      { uri: "https://service.org/\nVersion: 1" },
      { nonce: "12345678\nIssued At: 2021-09-30T16:25:24Z" },
      { resources: ["https://x.org\n- https://y.org"] },
      { requestId: "x\nResources:" },
      { issuedAt: "2021-09-30T16:25:24Z\n" },
      { address: "0x0" },
      { kind: "constructor" as "ed25519" },
    ]) {
      isInvalid(() => formatSignInMessage({ ...fields, ...bad }));
    }
  });
});

describe("a signer reads a challenge before signing it", () => {
  const key = generateKey("ed25519");
  const now = Date.UTC(2026, 10, 23);
  const challenge = (changes: Partial<SignInMessage> = {}) =>
    formatSignInMessage({
      kind: "ed25519",
      domain: "vm.example.org:8443",
      address: keyId(key),
      uri: "https://vm.example.org:8443",
      chainId: "1",
      nonce: "0123456789abcdef",
      issuedAt: new Date(now).toISOString(),
      expirationTime: new Date(now + 300_000).toISOString(),
      ...changes,
    });
  const expected = { issuer: "https://vm.example.org:8443", keyId: keyId(key), now };

  it("a signer accepts a challenge of the server it talks to", () => {
    expect(readChallenge(challenge(), expected).nonce).toBe("0123456789abcdef");
  });

  it.each<[string, Partial<SignInMessage>]>([
    ["another server's domain", { domain: "good.example.org" }],
    ["another port", { domain: "vm.example.org" }],
    ["another server's URI", { uri: "https://good.example.org" }],
    ["another key", { address: keyId(generateKey("ed25519")) }],
    ["a time that is over", { expirationTime: new Date(now - 1).toISOString() }],
  ])("and refuses one for %s", (_, changes) => {
    isInvalid(() => readChallenge(challenge(changes), expected));
  });

  it("a signer refuses a challenge without an expiry", () => {
    const { expirationTime: _, ...fields } = parseSignInMessage(challenge());
    isInvalid(() => readChallenge(formatSignInMessage(fields), expected));
  });
});
