// The random choices of a simulation, all from its seed.

import { seededRandom } from "@formation-mcp/base/testing/seeded-random";

export interface Chance {
  /** A number in [0, 1). */
  next(): number;
  /** Whether an event of this probability happens now. */
  happens(likelihood: number): boolean;
  between(low: number, high: number): number;
  whole(low: number, high: number): number;
  pick<T>(items: readonly T[]): T;
  /** A random waiting time with this average. */
  wait(meanMs: number): number;
  bytes(count: number): Uint8Array;
  /** A separate sequence of choices, independent of how many choices others have made. */
  branch(name: string): Chance;
}

export function chance(seed: number): Chance {
  const next = seededRandom(Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995);
  const between = (low: number, high: number) => low + next() * (high - low);
  const whole = (low: number, high: number) => Math.floor(between(low, high + 1));
  return {
    next,
    happens: (likelihood) => next() < likelihood,
    between,
    whole,
    pick: <T>(items: readonly T[]) => items[Math.floor(next() * items.length)] as T,
    wait: (meanMs) => -Math.log(1 - next()) * meanMs,
    bytes: (count) => Uint8Array.from({ length: count }, () => whole(0, 255)),
    branch: (name) => chance(seed ^ hash(name)),
  };
}

/** FNV-1a, 32 bits. */
export function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}
