// The text that a key signs to sign in: an EIP-4361 message, and for Ed25519 keys the same layout (CAIP-122).
// A message has one spelling only: formatting the fields of a parsed message gives the same bytes again.

import { FormationError } from "@formation-mcp/contract";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { checksumAddress } from "./ethereum.ts";
import type { KeyKind } from "./pair.ts";

/**
 * The fields of a message (https://eips.ethereum.org/EIPS/eip-4361), as texts. Times are RFC 3339.
 */
export interface SignInMessage {
  /** The kind of the key that signs. */
  kind: KeyKind;
  /** The server that asks: its host, and its port unless it is the scheme's default. */
  domain: string;
  /** The key's id: an EIP-55 address, or `key:<RFC 7638 thumbprint>`. */
  address: string;
  statement?: string;
  /** The resource that the signature is for. */
  uri: string;
  /** The EIP-155 chain. 1 for Ed25519 keys, which have no chain. */
  chainId: string;
  nonce: string;
  issuedAt: string;
  expirationTime?: string;
  notBefore?: string;
  requestId?: string;
  resources?: readonly string[];
}

const MAX_BYTES = 8192;
const ACCOUNTS: Readonly<Record<KeyKind, string>> = { secp256k1: "Ethereum", ed25519: "Ed25519" };

// RFC 3986: pchar, reserved and unreserved.
const URI_CHARS = "[A-Za-z0-9\\-._~:/?#[\\]@!$&'()*+,;=%]";
const PATTERNS = {
  domain: /^[A-Za-z0-9\-._~%!$&'()*+,;=:@[\]]{1,255}$/,
  address: /^(?:0x[0-9a-fA-F]{40}|key:[A-Za-z0-9_-]{43})$/,
  statement: /^[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;= ]*$/,
  uri: new RegExp(`^[A-Za-z][A-Za-z0-9+.-]*:${URI_CHARS}*$`),
  chainId: /^[0-9]{1,32}$/,
  nonce: /^[A-Za-z0-9]{8,128}$/,
  time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/,
  requestId: /^[A-Za-z0-9\-._~!$&'()*+,;=:@%]*$/,
} as const;

/**
 * Writes a message.
 * @throws FormationError `invalid` for a field that the grammar does not allow.
 */
export function formatSignInMessage(fields: SignInMessage): string {
  check(fields);
  const optional = (name: string, value: string | undefined) =>
    value === undefined ? [] : [`${name}: ${value}`];
  const text = [
    `${fields.domain} wants you to sign in with your ${ACCOUNTS[fields.kind]} account:`,
    fields.address,
    "",
    ...(fields.statement === undefined ? [] : [fields.statement]),
    "",
    `URI: ${fields.uri}`,
    "Version: 1",
    `Chain ID: ${fields.chainId}`,
    `Nonce: ${fields.nonce}`,
    `Issued At: ${fields.issuedAt}`,
    ...optional("Expiration Time", fields.expirationTime),
    ...optional("Not Before", fields.notBefore),
    ...optional("Request ID", fields.requestId),
    ...(fields.resources === undefined ? [] : ["Resources:", ...fields.resources.map((uri) => `- ${uri}`)]),
  ].join("\n");
  if (utf8ToBytes(text).length > MAX_BYTES) throw wrong("message", `is longer than ${MAX_BYTES} bytes`);
  return text;
}

/**
 * Reads a message.
 * @throws FormationError `invalid`, without the text, if it does not follow the grammar to the letter.
 */
export function parseSignInMessage(text: string): SignInMessage {
  if (typeof text !== "string" || text.length > MAX_BYTES) throw wrong("message", "is no sign-in message");
  const lines = text.split("\n");
  const next = () => lines.shift() ?? "";
  const head = /^(.+) wants you to sign in with your (Ethereum|Ed25519) account:$/.exec(next());
  if (head === null) throw wrong("message", "does not begin as a sign-in message does");
  const address = next();
  if (next() !== "") throw wrong("message", "has no empty line after the address");
  // Without a statement there are two empty lines in a row; an empty statement adds a third.
  const first = next();
  const stated = first !== "" || lines[0] === "";
  if (stated && next() !== "") throw wrong("message", "has no empty line after the statement");

  const field = (name: string): string | undefined => {
    if (!lines[0]?.startsWith(`${name}: `)) return undefined;
    return next().slice(name.length + 2);
  };
  const required = (name: string): string => {
    const value = field(name);
    if (value === undefined) throw wrong("message", `has no ${name} where it belongs`);
    return value;
  };
  const uri = required("URI");
  if (required("Version") !== "1") throw wrong("message", "has a Version other than 1");
  const fields: SignInMessage = {
    kind: head[2] === "Ethereum" ? "secp256k1" : "ed25519",
    domain: head[1] ?? "",
    address,
    ...(stated ? { statement: first } : {}),
    uri,
    chainId: required("Chain ID"),
    nonce: required("Nonce"),
    issuedAt: required("Issued At"),
    ...present("expirationTime", field("Expiration Time")),
    ...present("notBefore", field("Not Before")),
    ...present("requestId", field("Request ID")),
  };
  if (lines[0] === "Resources:") {
    lines.shift();
    fields.resources = lines.splice(0).map((line) => {
      if (!line.startsWith("- ")) throw wrong("message", "has a resource without its dash");
      return line.slice(2);
    });
  }
  if (lines.length > 0) throw wrong("message", "goes on after its last field");
  check(fields);
  return fields;
}

/**
 * Checks a challenge before it is signed. Without this check, a server could hand out the challenge of
 * another server and sign in there with the signature.
 * @param expected the server's origin as the signer knows it, the signing key's id, and the time in
 *   milliseconds.
 * @throws FormationError `invalid` if it is no message, or is for another server or key, or has expired.
 */
export function readChallenge(
  text: string,
  expected: { issuer: string; keyId: string; now: number },
): SignInMessage {
  const fields = parseSignInMessage(text);
  if (fields.domain !== new URL(expected.issuer).host || fields.uri !== expected.issuer) {
    throw wrong("message", "is for another server than the one that sent it", "Do not sign it.");
  }
  if (fields.address !== expected.keyId) throw wrong("message", "is for another key");
  if (fields.expirationTime === undefined || Date.parse(fields.expirationTime) <= expected.now) {
    throw wrong("message", "has expired", "Ask for a new challenge; check this machine's clock.");
  }
  return fields;
}

function present<K extends string>(name: K, value: string | undefined): { [P in K]?: string } {
  return value === undefined ? {} : ({ [name]: value } as { [P in K]?: string });
}

function check(fields: SignInMessage): void {
  const fits = (field: string, pattern: RegExp, value: string | undefined) => {
    if (value !== undefined && !(typeof value === "string" && pattern.test(value))) {
      throw wrong(field, "is not what a sign-in message may hold there");
    }
  };
  if (!Object.hasOwn(ACCOUNTS, fields.kind)) throw wrong("kind", "is no kind of key");
  fits("domain", PATTERNS.domain, fields.domain);
  fits("address", PATTERNS.address, fields.address);
  if (fields.address.startsWith("0x") !== (fields.kind === "secp256k1")) {
    throw wrong("address", "does not belong to that kind of key");
  }
  if (fields.kind === "secp256k1" && checksumAddress(fields.address) !== fields.address) {
    throw wrong("address", "has no EIP-55 checksum");
  }
  fits("statement", PATTERNS.statement, fields.statement);
  fits("uri", PATTERNS.uri, fields.uri);
  fits("chainId", PATTERNS.chainId, fields.chainId);
  fits("nonce", PATTERNS.nonce, fields.nonce);
  for (const name of ["issuedAt", "expirationTime", "notBefore"] as const) {
    fits(name, PATTERNS.time, fields[name]);
    if (fields[name] !== undefined && Number.isNaN(Date.parse(fields[name]))) throw wrong(name, "is no time");
  }
  fits("requestId", PATTERNS.requestId, fields.requestId);
  for (const uri of fields.resources ?? []) fits("resources", PATTERNS.uri, uri);
}

function wrong(field: string, what: string, remedy = "Sign the challenge exactly as the server sent it.") {
  return new FormationError("invalid", `The ${field} ${what}.`, { remedy, field });
}
