// How Ethereum names a key and signs a text: addresses (EIP-55) and personal_sign (EIP-191, version 0x45).

import { FormationError } from "@formation-mcp/contract";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { concatBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { asBytes, fromHex, toHex } from "./bytes.ts";

/** The last byte of a signature, v, is the recovery bit plus 27 (yellow paper, appendix F). */
const V_OFFSET = 27;

/**
 * Writes an address with its checksum (https://eips.ethereum.org/EIPS/eip-55).
 * @param address 20 bytes in hexadecimal: all in one case, or in mixed case with a right checksum.
 * @throws FormationError `invalid` for anything else.
 */
export function checksumAddress(address: string): string {
  const bytes = fromHex(address, 20, "address");
  const digits = toHex(bytes);
  const hash = toHex(keccak_256(utf8ToBytes(digits)));
  const cased = [...digits].map((digit, at) => ((hash[at] ?? "0") >= "8" ? digit.toUpperCase() : digit));
  const checksummed = `0x${cased.join("")}`;
  const given = address.startsWith("0x") ? address.slice(2) : address;
  const oneCase = given === given.toLowerCase() || given === given.toUpperCase();
  if (oneCase || `0x${given}` === checksummed) return checksummed;
  throw new FormationError(
    "invalid",
    "The address has a wrong checksum: a letter of it is probably mistyped.",
    {
      remedy: "Copy the address again, or write it all in lower case if you are sure of it.",
      field: "address",
    },
  );
}

/** The address of a public key: the last 20 bytes of the Keccak-256 of its coordinates. */
export function addressOf(publicKey: Uint8Array): string {
  const coordinates = secp256k1.Point.fromBytes(publicKey).toBytes(false).slice(1);
  return checksumAddress(toHex(keccak_256(coordinates).slice(-20)));
}

/**
 * Signs as wallets' personal_sign does: 65 bytes, r ‖ s ‖ v with low s and v 27 or 28. Deterministic (RFC
 * 6979).
 */
export function signPersonal(privateKey: Uint8Array, message: Uint8Array): Uint8Array {
  const signature = secp256k1.sign(personalDigest(message), privateKey, {
    prehash: false,
    lowS: true,
    format: "recovered",
  });
  return concatBytes(signature.slice(1), Uint8Array.of(V_OFFSET + (signature[0] ?? 0)));
}

/**
 * The address whose key signed a message with personal_sign. Only the canonical form of a signature is
 * accepted, s in the lower half of the order (EIP-2) and v 27 or 28, so a valid signature cannot be changed
 * into another valid one.
 * @throws FormationError `invalid` if it is not 65 bytes, or no key can have made it.
 */
export function recoverAddress(message: Uint8Array, signature: Uint8Array): string {
  const digest = personalDigest(asBytes(message, "message"));
  const bytes = asBytes(signature, "signature", 65);
  const recovery = (bytes[64] ?? 0) - V_OFFSET;
  try {
    if (recovery !== 0 && recovery !== 1) throw new RangeError("v is neither 27 nor 28");
    const compact = bytes.slice(0, 64);
    const parsed = secp256k1.Signature.fromBytes(compact);
    if (parsed.hasHighS()) throw new RangeError("s is in the upper half");
    return addressOf(parsed.addRecoveryBit(recovery).recoverPublicKey(digest).toBytes(true));
  } catch (cause) {
    throw new FormationError("invalid", "This is no signature that personal_sign makes.", {
      cause,
      remedy: "Sign the challenge with personal_sign (EIP-191) and send all 65 bytes: r, s and v.",
      field: "signature",
    });
  }
}

/**
 * Whether the key of an address signed a message with personal_sign.
 * @returns false also for a signature of the right length that no key can have made.
 * @throws FormationError `invalid` if the address, the message or the signature has the wrong shape.
 */
export function verifyPersonal(address: string, message: Uint8Array, signature: Uint8Array): boolean {
  const expected = checksumAddress(address);
  asBytes(message, "message");
  asBytes(signature, "signature", 65);
  try {
    return recoverAddress(message, signature) === expected;
  } catch {
    return false;
  }
}

function personalDigest(message: Uint8Array): Uint8Array {
  return keccak_256(concatBytes(utf8ToBytes(`\x19Ethereum Signed Message:\n${message.length}`), message));
}
