// Forged access tokens: made from a valid one, from the public key of the server and, to test single claims,
// with the private key of the server. All are compact JWS (RFC 7515), written by hand where a library would
// refuse.

import { createHmac, createPrivateKey, createPublicKey, type KeyObject, randomUUID, sign } from "node:crypto";
import { createAuthority } from "@formation-mcp/auth/authority";
import { CompactEncrypt, exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";

import { openKept } from "../shared.ts";
import type { HttpServer } from "./server.ts";

export type Claims = Record<string, unknown>;

/** What the forger knows. */
export interface Loot {
  /** A valid token. */
  good: string;
  /** The key that signed it, from the server's JWKS. */
  publicJwk: JWK;
  /** Its private key, for tokens with a single wrong claim. */
  privateJwk: JWK;
  /** A page that records its visitors. */
  trap: string;
}

/** Reads the private key from the disk of the server: so the best case of a forger is tested too. */
export async function steal(server: HttpServer, good: string, trap: string): Promise<Loot> {
  const { store, masterKey } = await openKept(server.stateDir);
  try {
    const authority = createAuthority({
      documents: store.documents,
      issuer: server.url,
      audience: `${server.url}/mcp`,
      masterKey: masterKey(),
    });
    const [privateJwk] = (await authority.signingKeys()).keys as JWK[];
    if (!privateJwk?.d) throw new Error("There is no private key to be had.");
    const { d: _, ...publicJwk } = privateJwk;
    return { good, privateJwk, publicJwk: publicJwk as JWK, trap };
  } finally {
    await store.close();
  }
}

export interface Forgery {
  /** The fault of the token. */
  what: string;
  make(loot: Loot): Promise<string> | string;
}

const b64 = (value: string | Uint8Array) => Buffer.from(value).toString("base64url");
const json = (value: unknown) => b64(JSON.stringify(value));

/** The parts of a token, decoded. */
export function partsOf(token: string): { header: Claims; claims: Claims; signature: Buffer; raw: string[] } {
  const raw = token.split(".");
  const decode = (part: string | undefined) => JSON.parse(Buffer.from(part ?? "", "base64url").toString());
  return {
    header: decode(raw[0]),
    claims: decode(raw[1]),
    signature: Buffer.from(raw[2] ?? "", "base64url"),
    raw,
  };
}

/** A token signed by the server key over claims and a header of the forger; `undefined` removes one. */
export function signedByServer(loot: Loot, claims: Claims, header: Claims = {}): string {
  const good = partsOf(loot.good);
  const payload = defined({ ...good.claims, jti: randomUUID(), ...claims });
  const text = `${json(defined({ ...good.header, ...header }))}.${json(payload)}`;
  const key = createPrivateKey({ key: loot.privateJwk as never, format: "jwk" });
  return `${text}.${sign(null, Buffer.from(text), key).toString("base64url")}`;
}

function defined(value: Claims): Claims {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined));
}

function hmac(header: Claims, claims: Claims, secret: string | Uint8Array, hash = "sha256"): string {
  const text = `${json(header)}.${json(claims)}`;
  return `${text}.${createHmac(hash, secret).update(text).digest("base64url")}`;
}

function unsigned(loot: Loot, alg: string, signature = ""): string {
  const { header, claims } = partsOf(loot.good);
  return `${json({ ...header, alg })}.${json({ ...claims, scope: "admin" })}.${signature}`;
}

function publicKey({ publicJwk }: Loot): KeyObject {
  return createPublicKey({ key: publicJwk as never, format: "jwk" });
}

function confused(what: string, secretOf: (loot: Loot) => string | Uint8Array): Forgery {
  return {
    what: `HS256 with ${what} as its secret`,
    make: (loot) => {
      const { header, claims } = partsOf(loot.good);
      return hmac({ ...header, alg: "HS256" }, claims, secretOf(loot));
    },
  };
}

function stranger(alg: string, header: (loot: Loot, own: JWK) => Claims = () => ({})): Forgery["make"] {
  return async (loot) => {
    const pair = await generateKeyPair(alg, { extractable: true });
    const own = await exportJWK(pair.publicKey);
    const good = partsOf(loot.good);
    return new SignJWT(good.claims)
      .setProtectedHeader({ ...good.header, alg, ...header(loot, own) } as { alg: string })
      .sign(pair.privateKey);
  };
}

const claim = (what: string, claims: (now: number, good: Claims) => Claims, header?: Claims): Forgery => ({
  what,
  make: (loot) =>
    signedByServer(loot, claims(Math.floor(Date.now() / 1000), partsOf(loot.good).claims), header),
});

const header = (what: string, over: Claims): Forgery => claim(what, () => ({}), over);

/** Tokens without the signature of the server, or with one that does not fit. */
export const UNSIGNED: readonly Forgery[] = [
  ...["none", "None", "NONE", "nOnE", ""].map((alg) => ({
    what: `alg ${JSON.stringify(alg)} and no signature`,
    make: (loot: Loot) => unsigned(loot, alg),
  })),
  {
    what: "alg none with the old signature",
    make: (loot) => unsigned(loot, "none", partsOf(loot.good).raw[2]),
  },
  { what: "alg EdDSA and no signature", make: (loot) => unsigned(loot, "EdDSA") },
  {
    what: "an alg that is a list",
    make: (loot) => `${json({ alg: ["EdDSA", "none"] })}.${partsOf(loot.good).raw[1]}.`,
  },
  confused("the public key's bytes", ({ publicJwk }) => Buffer.from(String(publicJwk.x), "base64url")),
  confused("the public key's x", ({ publicJwk }) => String(publicJwk.x)),
  confused("the public JWK", ({ publicJwk }) => JSON.stringify(publicJwk)),
  confused("the public key in PEM", (loot) =>
    String(publicKey(loot).export({ type: "spki", format: "pem" })),
  ),
  confused(
    "the public key in DER",
    (loot) => publicKey(loot).export({ type: "spki", format: "der" }) as Buffer,
  ),
  confused("nothing", () => ""),
  confused("the word secret", () => "secret"),
  ...["EdDSA", "ES256", "RS256", "PS256", "ES384"].map((alg) => ({
    what: `${alg} of a stranger under the server's kid`,
    make: stranger(alg),
  })),
  { what: "a stranger's key that it brings along (jwk)", make: stranger("EdDSA", (_, jwk) => ({ jwk })) },
  {
    what: "a stranger's key set by URL (jku)",
    make: stranger("EdDSA", ({ trap }) => ({ jku: `${trap}/jku` })),
  },
  {
    what: "a stranger's certificate by URL (x5u)",
    make: stranger("EdDSA", ({ trap }) => ({ x5u: `${trap}/x5u` })),
  },
  { what: "a stranger's certificate chain (x5c)", make: stranger("EdDSA", () => ({ x5c: ["MIIB"] })) },
  { what: "a kid that is a URL", make: stranger("EdDSA", ({ trap }) => ({ kid: `${trap}/kid` })) },
  { what: "a kid that is a path", make: stranger("EdDSA", () => ({ kid: "../../../../dev/null" })) },
  { what: "a kid that is SQL", make: stranger("EdDSA", () => ({ kid: "x' UNION SELECT 'a' --" })) },
  { what: "a kid that is __proto__", make: stranger("EdDSA", () => ({ kid: "__proto__" })) },
  { what: "a kid with a NUL", make: stranger("EdDSA", () => ({ kid: "a\0b" })) },
  { what: "a kid of 4,000 letters", make: stranger("EdDSA", () => ({ kid: "k".repeat(4000) })) },
  { what: "a kid that is a list", make: stranger("EdDSA", () => ({ kid: ["a"] })) },
  {
    what: "a changed scope under the old signature",
    make: (loot) => {
      const { claims, raw } = partsOf(loot.good);
      return [raw[0], json({ ...claims, scope: "admin" }), raw[2]].join(".");
    },
  },
  {
    what: "a later end under the old signature",
    make: (loot) => {
      const { claims, raw } = partsOf(loot.good);
      return [raw[0], json({ ...claims, exp: 9_999_999_999 }), raw[2]].join(".");
    },
  },
  {
    what: "one flipped bit in the signature",
    make: (loot) => {
      const { raw, signature } = partsOf(loot.good);
      signature[7] = (signature[7] ?? 0) ^ 1;
      return [raw[0], raw[1], b64(signature)].join(".");
    },
  },
  {
    what: "the signature's other spelling (S + L, RFC 8032 §5.1.7)",
    make: (loot) => {
      const { raw, signature } = partsOf(loot.good);
      const order = 2n ** 252n + 27742317777372353535851937790883648493n;
      let s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString("hex")}`) + order;
      for (let at = 32; at < 64; at++, s >>= 8n) signature[at] = Number(s & 255n);
      return [raw[0], raw[1], b64(signature)].join(".");
    },
  },
  {
    what: "a signature of zeros",
    make: (loot) => [...partsOf(loot.good).raw.slice(0, 2), b64(Buffer.alloc(64))].join("."),
  },
  { what: "half of a token", make: (loot) => loot.good.slice(0, loot.good.length / 2) },
  { what: "two parts", make: (loot) => partsOf(loot.good).raw.slice(0, 2).join(".") },
  { what: "four parts", make: (loot) => `${loot.good}.AAAA` },
  { what: "dots alone", make: () => ".." },
  { what: "parts that are no base64url", make: () => "e30=.e30=.e30=" },
  {
    what: "a header that is no JSON",
    make: (loot) => [b64("{"), ...partsOf(loot.good).raw.slice(1)].join("."),
  },
  {
    what: "a header that is a list",
    make: (loot) => [json([]), ...partsOf(loot.good).raw.slice(1)].join("."),
  },
  {
    what: "a header that is null",
    make: (loot) => [json(null), ...partsOf(loot.good).raw.slice(1)].join("."),
  },
  {
    what: "a header 1,000 objects deep",
    make: (loot) =>
      [
        b64(`{"alg":"EdDSA","a":${'{"a":'.repeat(1000)}1${"}".repeat(1001)}`),
        ...partsOf(loot.good).raw.slice(1),
      ].join("."),
  },
  {
    what: "an encrypted token (JWE) around a good one",
    make: (loot) =>
      new CompactEncrypt(Buffer.from(loot.good))
        .setProtectedHeader({ alg: "dir", enc: "A256GCM" })
        .encrypt(Buffer.alloc(32, 1)),
  },
];

/** Tokens signed with the server's key, each with one fault. */
export const MISCLAIMED: readonly Forgery[] = [
  claim("another issuer", () => ({ iss: "https://evil.example" })),
  claim("the issuer with a slash", (_, { iss }) => ({ iss: `${iss}/` })),
  claim("the issuer in a list", (_, { iss }) => ({ iss: [iss] })),
  claim("no issuer", () => ({ iss: undefined })),
  claim("another audience", () => ({ aud: "https://evil.example/mcp" })),
  claim("the issuer as its audience", (_, { iss }) => ({ aud: iss })),
  claim("an audience that ours begins with", (_, { aud }) => ({ aud: String(aud).slice(0, -1) })),
  claim("an audience that begins with ours", (_, { aud }) => ({ aud: `${aud}/x` })),
  claim("no audience", () => ({ aud: undefined })),
  claim("an empty list of audiences", () => ({ aud: [] })),
  claim("an end 61 s ago", (now) => ({ exp: now - 61 })),
  claim("an end in 1970", () => ({ exp: 0 })),
  claim("no end", () => ({ exp: undefined })),
  claim("an end that is a text", (now) => ({ exp: String(now + 600) })),
  claim("an end that is null", () => ({ exp: null })),
  claim("a beginning in 120 s", (now) => ({ nbf: now + 120 })),
  claim("a birth in 120 s", (now) => ({ iat: now + 120 })),
  claim("no birth", () => ({ iat: undefined })),
  claim("no subject", () => ({ sub: undefined })),
  claim("an empty subject", () => ({ sub: "" })),
  claim("a subject that is a number", () => ({ sub: 7 })),
  claim("a subject that has no account", () => ({ sub: "0x000000000000000000000000000000000000dEaD" })),
  claim("a local user as its subject", () => ({ sub: "local:0" })),
  claim("a life of a day", (now) => ({ iat: now, exp: now + 86_400 })),
  claim("no id", () => ({ jti: undefined })),
  claim("an id that is a list", () => ({ jti: ["a"] })),
  header("no type", { typ: undefined }),
  header("the type of an identity token", { typ: "JWT" }),
  header("the type of a logout token", { typ: "logout+jwt" }),
  header("no kid", { kid: undefined }),
  header("a kid that nobody has", { kid: "nobody" }),
  header("an extension that must be understood (crit)", { crit: ["exp"], exp: 1 }),
  header("a payload that is not encoded (b64, RFC 7797)", { crit: ["b64"], b64: true }),
  header("a key beside its kid (jwk)", { jwk: { kty: "OKP", crv: "Ed25519", x: "AAAA" } }),
  header("a key set beside its kid (jku)", { jku: "https://evil.example/jwks" }),
  header("compression (zip)", { zip: "DEF" }),
];
