// Reads private keys in the usual formats: hexadecimal digits, PEM and JWK. Parsing is strict: a public half
// in the file must belong to the private one. No error repeats any of the text.

import { FormationError } from "@formation-mcp/contract";
import { fromBase64Url, toHex } from "./bytes.ts";
import { type DerValue, readDer } from "./der.ts";
import { type KeyKind, type KeyPair, keyFromPrivate } from "./pair.ts";

const MAX_TEXT = 16 * 1024;

// The DER contents of object identifiers: RFC 8410 §3, RFC 5480 §2.1.1, SEC 2 §A.2.1.
const ED25519 = "2b6570";
const EC_PUBLIC_KEY = "2a8648ce3d0201";
const SECP256K1 = "2b8104000a";

/**
 * The key pair of a private key as text: 64 hexadecimal digits (secp256k1, unless a kind is given), PEM
 * (PKCS#8 of either kind, RFC 5958; SEC 1 for secp256k1, RFC 5915), or a JWK (RFC 8037, RFC 8812).
 * @param kind the kind that the key must have. Hexadecimal digits are read as a key of this kind.
 * @throws FormationError `invalid` for anything else; the error does not hold the text.
 */
export function importKey(text: string, kind?: KeyKind): KeyPair {
  const trimmed = typeof text === "string" && text.length <= MAX_TEXT ? text.trim() : "";
  let key: KeyPair;
  if (trimmed.startsWith("{")) key = fromJwk(trimmed);
  else if (trimmed.includes("-----BEGIN ")) key = fromPem(trimmed);
  else if (/^(?:0x)?[0-9a-fA-F]{64}$/.test(trimmed)) key = keyFromPrivate(kind ?? "secp256k1", trimmed);
  else throw unreadable("This is no private key that can be read.");
  if (kind !== undefined && key.kind !== kind)
    throw unreadable(`This is a ${key.kind} key, not a ${kind} one.`);
  return key;
}

function fromJwk(text: string): KeyPair {
  let jwk: Record<string, unknown>;
  try {
    jwk = JSON.parse(text) as Record<string, unknown>;
  } catch {
    throw unreadable("This is no JSON.");
  }
  const { kty, crv, d, x, y } = jwk;
  const kind =
    kty === "OKP" && crv === "Ed25519" ? "ed25519" : kty === "EC" && crv === "secp256k1" ? "secp256k1" : null;
  if (kind === null) throw unreadable("This JSON is no Ed25519 or secp256k1 key.");
  if (typeof d !== "string") throw unreadable("This JSON is a public key: its d is missing.");
  const bytes = fromBase64Url(d, "d");
  if (bytes.length !== 32) throw unreadable("The key's d is not 32 bytes.");
  const key = keyFromPrivate(kind, toHex(bytes));
  const expected: Record<string, unknown> = { ...key.publicJwk() };
  if (x !== expected["x"] || y !== expected["y"]) throw halves();
  return key;
}

function fromPem(text: string): KeyPair {
  const blocks = [...text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]*)-----END \1-----/g)];
  const labels = blocks.map(([, label = ""]) => label);
  if (labels.some((label) => label.includes("ENCRYPTED")) || /^(?:Proc-Type|DEK-Info):/m.test(text)) {
    throw unreadable(
      "This PEM is sealed with a passphrase.",
      "Open it first, e.g. with: openssl pkey -in key.pem, and give what that prints.",
    );
  }
  if (labels.includes("OPENSSH PRIVATE KEY")) {
    throw unreadable(
      "OpenSSH's own format is not read.",
      "Make a key with formation-mcp keygen, or give PKCS#8.",
    );
  }
  const found = blocks.filter(([, label = ""]) => /^(?:EC )?PRIVATE KEY$/.test(label));
  const [block] = found;
  if (!block || found.length > 1) throw unreadable("This PEM does not hold one private key.");
  const der = readDer(fromBase64(block[2] ?? ""));
  return block[1] === "PRIVATE KEY" ? fromPkcs8(der) : fromSec1(der, false);
}

/** OneAsymmetricKey (RFC 5958 §2). */
function fromPkcs8(der: DerValue): KeyPair {
  const [version, algorithm, octets, ...rest] = der.sequence();
  const [oid, curve] = algorithm?.sequence() ?? [];
  if (!version || !oid || !octets || !["00", "01"].includes(version.hex(0x02))) throw unreadable();
  if (oid.hex(0x06) === EC_PUBLIC_KEY && curve?.hex(0x06) === SECP256K1) {
    return fromSec1(readDer(octets.bytes(0x04)), true);
  }
  if (oid.hex(0x06) !== ED25519 || curve !== undefined) {
    throw unreadable("This PEM holds a key of another kind than Ed25519 and secp256k1.");
  }
  const key = keyFromPrivate("ed25519", toHex(readDer(octets.bytes(0x04)).bytes(0x04)));
  // [1] is the public key. [0] are attributes, which do not concern the key itself.
  const bits = rest.find((part) => part.tag === 0x81);
  if (bits && bits.hex(0x81) !== `00${key.public_key}`) throw halves();
  return key;
}

/** ECPrivateKey (RFC 5915 §3). */
function fromSec1(der: DerValue, curveKnown: boolean): KeyPair {
  const [version, octets, ...rest] = der.sequence();
  if (!octets || version?.hex(0x02) !== "01") throw unreadable();
  const curve = rest
    .find((part) => part.tag === 0xa0)
    ?.inner()
    .hex(0x06);
  if (curve === undefined ? !curveKnown : curve !== SECP256K1) {
    throw unreadable("This PEM holds a key of another curve than secp256k1.");
  }
  const key = keyFromPrivate("secp256k1", octets.hex(0x04));
  const given = rest
    .find((part) => part.tag === 0xa1)
    ?.inner()
    .hex(0x03);
  if (given !== undefined) {
    const { x, y } = key.publicJwk() as { x: string; y: string };
    const full = `0004${toHex(fromBase64Url(x, "x"))}${toHex(fromBase64Url(y, "y"))}`;
    if (given !== full && given !== `00${key.public_key}`) throw halves();
  }
  return key;
}

function fromBase64(text: string): Uint8Array {
  const bare = text.replaceAll(/\s/g, "").replace(/={1,2}$/, "");
  try {
    return fromBase64Url(bare.replaceAll("+", "-").replaceAll("/", "_"), "PEM");
  } catch {
    throw unreadable("The PEM's text is not base64.");
  }
}

function halves(): FormationError {
  return unreadable("The public half does not belong to the private one.", "Export the key again.");
}

function unreadable(
  message = "This PEM does not hold a private key in the form of RFC 5958 or RFC 5915.",
  remedy = "Give 64 hexadecimal digits, an unsealed PEM (PKCS#8 or SEC 1), or a JWK with its d.",
): FormationError {
  return new FormationError("invalid", message, { remedy, field: "private key" });
}
