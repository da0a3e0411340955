// A key as a caller gives it, checked: its id, its kind and its public half belong together. This folder
// knows accounts, their keys and scopes, what revoking does to them, and how the first admin is made.

import { FormationError } from "@formation-mcp/contract";
import { fromBase64Url } from "../../keys/bytes.ts";
import { checksumAddress } from "../../keys/ethereum.ts";
import { keyId as keyIdOf } from "../../keys/identity.ts";
import type { PublicJwk } from "../../keys/jwk.ts";
import { isEd25519Key } from "../../keys/pair.ts";
import type { AccountKey } from "./types.ts";

/** A key as a caller gives it. */
export interface KeyInput {
  id?: string;
  publicKey?: object;
  label?: string;
}

/** A key whose id and shape were checked. `jwk` is null where only the id is known or needed. */
export interface CheckedKey {
  id: string;
  kind: AccountKey["kind"];
  jwk: PublicJwk | null;
  label: string | null;
}

const THUMBPRINT = /^key:[A-Za-z0-9_-]{43}$/;

/**
 * Checks a key: an address, a thumbprint, or a public Ed25519 or secp256k1 JWK.
 * @throws FormationError `invalid`
 */
export function checkKey({ id, publicKey, label }: KeyInput): CheckedKey {
  checkLabel(label);
  const about = { label: label ?? null };
  if (publicKey === undefined) {
    if (id?.startsWith("0x")) return { id: checksumAddress(id), kind: "secp256k1", jwk: null, ...about };
    // A thumbprint is a hash of the key (RFC 7638), so a signature by another key is detected.
    if (id !== undefined && THUMBPRINT.test(id)) return { id, kind: "ed25519", jwk: null, ...about };
    throw invalidKey(id === undefined ? "There is no key." : "This is no key's id.");
  }
  const keyId = keyIdOf(publicKey as PublicJwk);
  const given = id?.startsWith("0x") ? checksumAddress(id) : id;
  if (given !== undefined && given !== keyId) throw invalidKey("The key and its id do not belong together.");
  if (keyId.startsWith("0x")) return { id: keyId, kind: "secp256k1", jwk: null, ...about };
  const { x } = publicKey as { x: string };
  if (!isEd25519Key(fromBase64Url(x, "x"))) throw invalidKey("These bytes are no Ed25519 key.");
  return { id: keyId, kind: "ed25519", jwk: { kty: "OKP", crv: "Ed25519", x }, ...about };
}

/** @throws FormationError `invalid` */
export function checkLabel(label: string | undefined): void {
  if (label === undefined || (typeof label === "string" && /^[^\p{C}]{1,64}$/u.test(label))) return;
  throw new FormationError("invalid", "A key's label is 1 to 64 printable characters.", { field: "label" });
}

function invalidKey(message: string): FormationError {
  return new FormationError("invalid", message, {
    remedy: "Give the address of a secp256k1 key, or the thumbprint or public JWK of an Ed25519 key.",
    field: "key",
  });
}
