import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
} from "node:crypto";
import { inspect } from "node:util";
import type { Authority } from "@formation-mcp/auth/authority";
import { generateKey, keyId } from "@formation-mcp/auth/keys";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import fc from "fast-check";
import { importJWK, type JWK, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AUDIENCE, ISSUER, signed, type World, world } from "./support/world.ts";

const encode = (value: unknown) =>
  Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

type Json = Record<string, unknown>;

/**
 * All that an attacker may know, and in this test even the private signing key: so only what is tested can
 * refuse.
 */
interface Forge {
  world: World;
  authority: Authority;
  owner: string;
  /** A genuine token. */
  genuine: string;
  header: Json;
  claims: Json;
  privateKey: KeyObject;
  publicJwk: JWK;
  /** Signs any header and payload with the server's own key, or with another. */
  forge(header: Json | string, claims: Json | string, key?: KeyObject): string;
}

async function workshop(atEnd?: (close: () => Promise<void>) => void): Promise<Forge> {
  const here = await world(atEnd);
  const { authority, admin } = await here.founded();
  const { access_token: genuine } = await authority.signIn(await signed(authority, admin));
  const [header, claims] = genuine
    .split(".")
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, "base64url").toString()) as Json);
  const { keys } = await authority.signingKeys();
  const privateKey = createPrivateKey({ key: keys[0] as never, format: "jwk" });
  const [publicJwk] = (await authority.jwks()).keys as [JWK];
  return {
    world: here,
    authority,
    owner: keyId(admin),
    genuine,
    header: header as Json,
    claims: claims as Json,
    privateKey,
    publicJwk,
    forge: (head, body, key = privateKey) => {
      const input = `${encode(head)}.${encode(body)}`;
      return `${input}.${sign(null, Buffer.from(input), key).toString("base64url")}`;
    },
  };
}

/** The words of every refusal: one for all, and nothing of the token in it. */
const refusalOf = async (authority: Authority, token: unknown): Promise<string> => {
  try {
    await authority.authenticate(token as string);
  } catch (error) {
    expect(error).toBeInstanceOf(FormationError);
    expect((error as FormationError).code).toBe("unauthenticated");
    const shown = inspect(error, { depth: 9 });
    for (const part of typeof token === "string" ? token.split(".") : []) {
      if (part.length > 20) expect(shown).not.toContain(part.slice(0, 20));
    }
    return JSON.stringify((error as FormationError).toRecord());
  }
  return expect.fail("the token was taken");
};

const other = generateKeyPairSync("ed25519");
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const hmac = (secret: string | Buffer, input: string) =>
  createHmac("sha256", secret).update(input).digest("base64url");
const now = (f: Forge) => Math.floor(f.world.clock.time / 1000);
const without = (from: Json, name: string): Json => {
  const { [name]: _, ...rest } = from;
  return rest;
};

const ATTACKS: [what: string, make: (f: Forge) => string | Promise<string>][] = [
  // Another algorithm.
  ["alg none, without a signature", (f) => `${encode({ ...f.header, alg: "none" })}.${encode(f.claims)}.`],
  ["alg None", (f) => f.forge({ ...f.header, alg: "None" }, f.claims)],
  ["alg none with our signature", (f) => f.forge({ ...f.header, alg: "none" }, f.claims)],
  ["no alg", (f) => f.forge(without(f.header, "alg"), f.claims)],
  ["alg in other case", (f) => f.forge({ ...f.header, alg: "EDDSA" }, f.claims)],
  ["two algs as a list", (f) => f.forge({ ...f.header, alg: ["EdDSA"] }, f.claims)],
  [
    "HS256 with the public key's x as the secret",
    (f) => {
      const input = `${encode({ ...f.header, alg: "HS256" })}.${encode(f.claims)}`;
      return `${input}.${hmac(Buffer.from(String(f.publicJwk.x), "base64url"), input)}`;
    },
  ],
  [
    "HS256 with the public key's PEM as the secret",
    (f) => {
      const input = `${encode({ ...f.header, alg: "HS256" })}.${encode(f.claims)}`;
      const pem = createPublicKey({ key: f.publicJwk as never, format: "jwk" }).export({
        type: "spki",
        format: "pem",
      });
      return `${input}.${hmac(String(pem), input)}`;
    },
  ],
  [
    "HS512 padded to an Ed25519 signature's length",
    (f) => {
      const input = `${encode({ ...f.header, alg: "HS512" })}.${encode(f.claims)}`;
      const mac = createHmac("sha512", String(f.publicJwk.x)).update(input).digest("base64url");
      return `${input}.${mac}`;
    },
  ],
  [
    "RS256 by a key of the attacker",
    (f) => {
      const input = `${encode({ ...f.header, alg: "RS256" })}.${encode(f.claims)}`;
      return `${input}.${sign("sha256", Buffer.from(input), rsa.privateKey).toString("base64url")}`;
    },
  ],
  ["ES256 in name alone", (f) => f.forge({ ...f.header, alg: "ES256" }, f.claims)],
  // Another key.
  ["a key of the attacker under our kid", (f) => f.forge(f.header, f.claims, other.privateKey)],
  ["an unknown kid", (f) => f.forge({ ...f.header, kid: "A".repeat(43) }, f.claims)],
  ["no kid", (f) => f.forge(without(f.header, "kid"), f.claims)],
  ["a kid that is a path", (f) => f.forge({ ...f.header, kid: "../../../dev/null" }, f.claims)],
  ["a kid that is SQL", (f) => f.forge({ ...f.header, kid: "' or 1=1 --" }, f.claims)],
  ["a kid that is a URL", (f) => f.forge({ ...f.header, kid: "https://evil.example/k" }, f.claims)],
  ["a kid that is the document's id", (f) => f.forge({ ...f.header, kid: "1" }, f.claims)],
  ["a kid that is an object", (f) => f.forge({ ...f.header, kid: { toString: "1" } }, f.claims)],
  ["a kid of the prototype", (f) => f.forge({ ...f.header, kid: "__proto__" }, f.claims)],
  [
    "its own key in jwk",
    (f) =>
      f.forge({ ...f.header, jwk: other.publicKey.export({ format: "jwk" }) }, f.claims, other.privateKey),
  ],
  ["jwk with our own key", (f) => f.forge({ ...f.header, jwk: f.publicJwk }, f.claims)],
  ["jku", (f) => f.forge({ ...f.header, jku: "https://evil.example/jwks.json" }, f.claims)],
  ["x5u", (f) => f.forge({ ...f.header, x5u: "https://evil.example/cert" }, f.claims)],
  ["x5c", (f) => f.forge({ ...f.header, x5c: ["MIIB"] }, f.claims)],
  ["x5t", (f) => f.forge({ ...f.header, x5t: "AA" }, f.claims)],
  // Other rules.
  ["crit", (f) => f.forge({ ...f.header, crit: ["exp"] }, f.claims)],
  ["an empty crit", (f) => f.forge({ ...f.header, crit: [] }, f.claims)],
  ["b64 false", (f) => f.forge({ ...f.header, b64: false, crit: ["b64"] }, f.claims)],
  ["b64 true", (f) => f.forge({ ...f.header, b64: true }, f.claims)],
  ["zip", (f) => f.forge({ ...f.header, zip: "DEF" }, f.claims)],
  ["cty of a nested token", (f) => f.forge({ ...f.header, cty: "JWT" }, f.genuine)],
  ["a nested token", (f) => f.forge(f.header, f.genuine)],
  ["typ JWT, as an ID token has", (f) => f.forge({ ...f.header, typ: "JWT" }, f.claims)],
  ["no typ", (f) => f.forge(without(f.header, "typ"), f.claims)],
  ["typ of a logout token", (f) => f.forge({ ...f.header, typ: "logout+jwt" }, f.claims)],
  ["typ in other case", (f) => f.forge({ ...f.header, typ: "AT+JWT" }, f.claims)],
  ["a header that is a list", (f) => f.forge("[]", f.claims)],
  ["a header that is null", (f) => f.forge("null", f.claims)],
  ["a header that is no JSON", (f) => f.forge('{"alg":"EdDSA"', f.claims)],
  // Other claims, signed by the server's own key.
  ["another issuer", (f) => f.forge(f.header, { ...f.claims, iss: "https://evil.example" })],
  ["an issuer with a slash more", (f) => f.forge(f.header, { ...f.claims, iss: `${ISSUER}/` })],
  ["no issuer", (f) => f.forge(f.header, without(f.claims, "iss"))],
  ["another audience", (f) => f.forge(f.header, { ...f.claims, aud: ISSUER })],
  ["an audience beside ours", (f) => f.forge(f.header, { ...f.claims, aud: [AUDIENCE, "https://x"] })],
  ["an audience that ours begins with", (f) => f.forge(f.header, { ...f.claims, aud: `${AUDIENCE}/x` })],
  ["no audience", (f) => f.forge(f.header, without(f.claims, "aud"))],
  ["an end that has come", (f) => f.forge(f.header, { ...f.claims, exp: now(f) })],
  ["no end", (f) => f.forge(f.header, without(f.claims, "exp"))],
  ["an end that is a text", (f) => f.forge(f.header, { ...f.claims, exp: String(f.claims["exp"]) })],
  [
    "an end that is no number",
    (f) => f.forge(f.header, JSON.stringify(f.claims).replace(/"exp":\d+/, '"exp":1e999')),
  ],
  ["a life of more than 15 minutes", (f) => f.forge(f.header, { ...f.claims, exp: now(f) + 901 })],
  ["a life that is negative", (f) => f.forge(f.header, { ...f.claims, iat: now(f) + 50, exp: now(f) + 40 })],
  [
    "a beginning 61 seconds ahead",
    (f) => f.forge(f.header, { ...f.claims, iat: now(f) + 61, exp: now(f) + 900 }),
  ],
  ["no beginning", (f) => f.forge(f.header, without(f.claims, "iat"))],
  ["nbf 61 seconds ahead", (f) => f.forge(f.header, { ...f.claims, nbf: now(f) + 61 })],
  ["an nbf that is a text", (f) => f.forge(f.header, { ...f.claims, nbf: "0" })],
  ["no subject", (f) => f.forge(f.header, without(f.claims, "sub"))],
  [
    "a subject without an account",
    (f) => f.forge(f.header, { ...f.claims, sub: keyId(generateKey("ed25519")) }),
  ],
  ["a subject that is an object", (f) => f.forge(f.header, { ...f.claims, sub: { owner: f.owner } })],
  ["a subject in other case", (f) => f.forge(f.header, { ...f.claims, sub: f.owner.toLowerCase() })],
  [
    "an agent that has no account",
    (f) => f.forge(f.header, { ...f.claims, sub: "key:x", client_id: "key:x" }),
  ],
  ["no id", (f) => f.forge(f.header, without(f.claims, "jti"))],
  ["no client", (f) => f.forge(f.header, without(f.claims, "client_id"))],
  ["scopes as a list", (f) => f.forge(f.header, { ...f.claims, scope: ["admin"] })],
  ["a key that the account has not", (f) => f.forge(f.header, { ...f.claims, key: "key:other" })],
  ["bounds that are a text", (f) => f.forge(f.header, { ...f.claims, bounds: "none" })],
  ["bounds with an unknown fence", (f) => f.forge(f.header, { ...f.claims, bounds: { nodes: ["x"] } })],
  ["bounds that bind nobody", (f) => f.forge(f.header, { ...f.claims, bounds: { instances: [] } })],
  ["claims that are a list", (f) => f.forge(f.header, "[]")],
  ["claims that are no JSON", (f) => f.forge(f.header, "{")],
  // Another text.
  ["nothing", () => ""],
  ["a word", () => "admin"],
  ["two tokens", (f) => `${f.genuine},${f.genuine}`],
  ["two tokens with a space", (f) => `${f.genuine} ${f.genuine}`],
  ["the scheme's name before it", (f) => `Bearer ${f.genuine}`],
  ["a space after it", (f) => `${f.genuine} `],
  ["a line end after it", (f) => `${f.genuine}\n`],
  ["a NUL after it", (f) => `${f.genuine}\0`],
  ["padding", (f) => `${f.genuine}==`],
  ["a part more", (f) => `${f.genuine}.${encode("{}")}`],
  ["five parts, as an encrypted token", (f) => `${f.genuine}.x.y`],
  ["no signature", (f) => f.genuine.split(".").slice(0, 2).join(".")],
  ["an empty signature", (f) => `${f.genuine.split(".").slice(0, 2).join(".")}.`],
  [
    "JSON serialisation",
    (f) => {
      const [protectedHeader, payload, signature] = f.genuine.split(".");
      return JSON.stringify({ protected: protectedHeader, payload, signature });
    },
  ],
  [
    "a second spelling of the same signature",
    (f) => {
      const last = f.genuine.at(-1) ?? "";
      const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
      return f.genuine.slice(0, -1) + alphabet[alphabet.indexOf(last) + 1];
    },
  ],
  ["the alphabet of plain base64", (f) => f.genuine.replace(/.{4}$/, "++//")],
  [
    "another token's signature",
    async (f) => {
      const { access_token } = await f.authority.narrow(await f.authority.authenticate(f.genuine), {});
      return `${f.genuine.split(".").slice(0, 2).join(".")}.${access_token.split(".")[2]}`;
    },
  ],
  [
    "other claims under the old signature",
    (f) => {
      const [head, , signature] = f.genuine.split(".");
      return `${head}.${encode({ ...f.claims, scope: "admin" })}.${signature}`;
    },
  ],
  ["nine kilobytes", (f) => f.forge(f.header, { ...f.claims, padding: "x".repeat(9000) })],
  ["a megabyte of dots", () => ".".repeat(1_000_000)],
  ["a megabyte of letters", () => "a".repeat(1_000_000)],
  ["a refresh token", () => `fmr_${"0".repeat(32)}_0_${"A".repeat(43)}`],
  ["an API token that was never made", () => `fmt_${"0".repeat(32)}_${"A".repeat(43)}`],
  ["an API token with a path as its id", () => "fmt_../../x_AAAA"],
  ["no text at all", () => undefined as never],
  ["a list with a token", (f) => [f.genuine] as never],
];

describe(`${ATTACKS.length} tokens are refused, all with the same words`, () => {
  let f: Forge;
  let close: () => Promise<void>;
  beforeAll(async () => {
    f = await workshop((end) => {
      close = end;
    });
  });
  afterAll(async () => {
    await close();
  });

  it.each(ATTACKS)("%s", async (_, make) => {
    const said = await refusalOf(f.authority, await make(f));
    expect(said).toBe(await refusalOf(f.authority, "x"));
    // What was refused is not remembered as good, and the genuine one still is.
    expect((await f.authority.authenticate(f.genuine)).principal.owner).toBe(f.owner);
  });

  it("there are enough of them", () => {
    expect(ATTACKS.length).toBeGreaterThanOrEqual(90);
  });

  it("the same forge makes tokens that are accepted if nothing is changed", async () => {
    expect(f.forge(f.header, f.claims)).toBe(f.genuine);
    for (const good of [
      { ...f.claims, jti: "another" },
      { ...f.claims, iat: now(f) + 60, exp: now(f) + 900 },
      { ...f.claims, nbf: now(f) + 60 },
      { ...f.claims, exp: now(f) + 1 },
      without(f.claims, "key"),
      { ...f.claims, extra: { anything: true } },
    ]) {
      expect((await f.authority.authenticate(f.forge(f.header, good))).principal.owner).toBe(f.owner);
    }
    expect(
      (await f.authority.authenticate(f.forge({ ...f.header, alg: "Ed25519" }, { ...f.claims, jti: "b" })))
        .principal.owner,
    ).toBe(f.owner);
  });

  it("a token in which one character changed is refused, wherever it is", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(f.genuine.length - 1),
        fc.constantFrom(..."AZaz09-_.= "),
        async (at, letter) => {
          fc.pre(f.genuine[at] !== letter);
          await refusalOf(f.authority, f.genuine.slice(0, at) + letter + f.genuine.slice(at + 1));
        },
      ),
      { numRuns: 200 },
    );
  });

  it("whatever text comes: an answer of ours, and the next genuine token is taken", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.string({ unit: "binary", maxLength: 500 }), fc.anything()),
        async (junk) => {
          await refusalOf(f.authority, junk);
        },
      ),
      { numRuns: 200 },
    );
    expect((await f.authority.authenticate(f.genuine)).principal.owner).toBe(f.owner);
  });
});

describe("a token of the OAuth server, signed with the same keys", () => {
  const foreign = async (f: Forge, claims: Json) => {
    const { keys } = await f.authority.signingKeys();
    const jwk = keys[0] as JWK;
    return new SignJWT({
      scope: "vm:read openid offline_access",
      client_id: "https://claude.ai/client",
      ...claims,
    })
      .setProtectedHeader({ alg: "EdDSA", typ: "at+jwt", kid: String(jwk.kid) })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setIssuedAt(now(f))
      .setExpirationTime(now(f) + LIMITS.accessTokenMs / 1000)
      .setJti(`foreign-${"x".repeat(20)}`)
      .sign(await importJWK(jwk, "EdDSA"));
  };

  it("is its owner, with the scopes that mean something here", async () => {
    const f = await workshop();
    const who = await f.authority.authenticate(await foreign(f, { sub: f.owner, family: "grant-1" }));
    expect(who).toMatchObject({ clientId: "https://claude.ai/client", family: "grant-1" });
    expect([...who.principal.scopes]).toEqual(["vm:read"]);
    expect(who.principal.owner).toBe(f.owner);
  });

  it("of an agent that is its own client is the owner of the agent's key, while the account has that key", async () => {
    const f = await workshop();
    const key = generateKey("ed25519");
    await f.authority.addKey(f.owner, await signed(f.authority, key));
    const token = await foreign(f, { sub: keyId(key), client_id: keyId(key) });
    const who = await f.authority.authenticate(token);
    expect(who).toMatchObject({ keyId: keyId(key), clientId: keyId(key) });
    expect(who.principal.owner).toBe(f.owner);
    await f.authority.removeKey(f.owner, keyId(key));
    await refusalOf(f.authority, token);
  });

  it("ends with its grant, and with its own id", async () => {
    const f = await workshop();
    const token = await foreign(f, { sub: f.owner, family: `grant-${"y".repeat(20)}` });
    await f.authority.authenticate(token);
    expect(await f.authority.revokeToken(f.owner, `grant-${"y".repeat(20)}`)).toBe(true);
    await refusalOf(f.authority, token);
    const second = await foreign(f, { sub: f.owner });
    const { tokenId } = (await f.authority.authenticate(second)).principal;
    expect(await f.authority.revokeToken(f.owner, tokenId)).toBe(true);
    await refusalOf(f.authority, second);
  });
});
