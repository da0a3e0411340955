// The format of ids: the kind as a prefix, then the time, then 128 random bits, in an alphabet that sorts
// like the numbers.

import { FormationError } from "./errors.ts";

/** The kinds of record that have an id, by their prefix. */
export const ID_KINDS = {
  op: "operation",
  bld: "build",
  dep: "deployment",
  vm: "instance",
  node: "node",
} as const;

export type IdKind = keyof typeof ID_KINDS;
/** `op_…`: 10 characters of milliseconds and 26 of randomness, Crockford base 32 in lower case. */
export type Id<K extends IdKind = IdKind> = `${K}_${string}`;

export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
}

export const systemClock: Clock = { now: () => Date.now() };

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const ID_PATTERN = /^(op|bld|dep|vm|node)_[0-9a-hjkmnp-tv-z]{36}$/;

/**
 * Makes an id that sorts after every id of the same kind from an earlier millisecond; 128 bits are random.
 */
export function newId<K extends IdKind>(
  kind: K,
  clock: Clock = systemClock,
  random: (bytes: number) => Uint8Array = (bytes) => crypto.getRandomValues(new Uint8Array(bytes)),
): Id<K> {
  return `${kind}_${base32(BigInt(clock.now()), 10)}${base32(toBigInt(random(16)), 26)}`;
}

/** The kind that an id's prefix names; undefined if the text is not an id. */
export function idKind(text: string): IdKind | undefined {
  return ID_PATTERN.exec(text)?.[1] as IdKind | undefined;
}

/**
 * Checks that a text is an id of the given kind and returns it.
 * @throws FormationError `invalid` if it is not, with the field and the text in its message.
 */
export function parseId<K extends IdKind>(kind: K, text: string, field: string): Id<K> {
  if (idKind(text) === kind) return text as Id<K>;
  throw new FormationError(
    "invalid",
    `${field}: ${JSON.stringify(text.slice(0, 60))} is not a ${ID_KINDS[kind]} id.`,
    {
      remedy: `Give an id that begins with "${kind}_", as a tool returned it.`,
      field,
    },
  );
}

function base32(value: bigint, length: number): string {
  let text = "";
  for (let rest = value, i = 0; i < length; i++, rest >>= 5n) text = ALPHABET[Number(rest & 31n)] + text;
  return text;
}

function toBigInt(bytes: Uint8Array): bigint {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}
