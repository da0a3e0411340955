// Reads the part of DER (X.690) that private keys need: single-byte tags, definite lengths in their shortest
// form, no trailing bytes.

import { FormationError } from "@formation-mcp/contract";
import { toHex } from "./bytes.ts";

/** One value. Every method throws FormationError `invalid` if the value is of another type than asked for. */
export interface DerValue {
  readonly tag: number;
  /** The values of a SEQUENCE. */
  sequence(): DerValue[];
  /** The one value inside an explicit tag. */
  inner(): DerValue;
  bytes(tag: number): Uint8Array;
  hex(tag: number): string;
}

const SEQUENCE = 0x30;

/** @throws FormationError `invalid` unless the bytes are exactly one value. */
export function readDer(bytes: Uint8Array): DerValue {
  const [value, ...more] = valuesOf(bytes);
  if (!value || more.length > 0) throw malformed();
  return value;
}

function valuesOf(bytes: Uint8Array): DerValue[] {
  const values: DerValue[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at] ?? 0;
    const [length, start] = lengthAt(bytes, at + 1);
    if ((tag & 0x1f) === 0x1f || start + length > bytes.length) throw malformed();
    values.push(derValue(tag, bytes.subarray(start, start + length)));
    at = start + length;
  }
  return values;
}

/** Reads a length. `start` is where the content begins. */
function lengthAt(bytes: Uint8Array, at: number): [length: number, start: number] {
  const first = bytes[at];
  if (first === undefined) throw malformed();
  if (first < 0x80) return [first, at + 1];
  const second = bytes[at + 1] ?? 0;
  if (first === 0x81 && second >= 0x80) return [second, at + 2];
  const length = second * 256 + (bytes[at + 2] ?? 0);
  if (first === 0x82 && length >= 0x100) return [length, at + 3];
  throw malformed();
}

function derValue(tag: number, content: Uint8Array): DerValue {
  const bytes = (expected: number): Uint8Array => {
    if (tag !== expected) throw malformed();
    return content;
  };
  return {
    tag,
    bytes,
    hex: (expected) => toHex(bytes(expected)),
    sequence: () => valuesOf(bytes(SEQUENCE)),
    inner: () => readDer(content),
  };
}

function malformed(): FormationError {
  return new FormationError("invalid", "The PEM does not hold well-formed DER.", {
    remedy: "Export the key again as PKCS#8.",
    field: "private key",
  });
}
