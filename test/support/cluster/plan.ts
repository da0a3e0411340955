// The faults of a long set of rounds, so that each kind comes equally often for every seed, and their
// results.

import { FAULTS } from "./faults.ts";
import type { Told } from "./round.ts";
import { STEPS } from "./steps.ts";

/** How often each fault comes while every step comes once. */
const WEIGHTS: Record<string, number> = { "machines killed": 1 };
const USUAL_WEIGHT = 3;

/** Every second fault is a worker killed at a step; a seed always means the same fault. */
export function planned(seed: number, rounds: number): string[] {
  const deck = DECK;
  return Array.from({ length: rounds }, (_, at) => deck[(seed + at) % deck.length] ?? "");
}

const DECK = ((): string[] => {
  const steps = STEPS.map(({ name }) => name);
  const others = FAULTS.filter((fault) => !STEPS.includes(fault));
  const rest = Array.from({ length: USUAL_WEIGHT }, (_, turn) =>
    others.filter(({ name }) => (WEIGHTS[name] ?? USUAL_WEIGHT) > turn).map(({ name }) => name),
  ).flat();
  const length = Math.max(steps.length, rest.length);
  return Array.from({ length }, (_, at) => [steps[at] ?? [], rest[at] ?? []].flat()).flat();
})();

/** A line for each kind of fault. */
export function table(held: readonly Told[], failed: number, seconds: number): string {
  const kinds = [...new Set(held.map(({ fault }) => fault))].sort();
  const lines = kinds.map((kind) => {
    const of = held.filter(({ fault }) => fault === kind);
    const sum = (what: "unavailable" | "accepted" | "seconds") =>
      of.reduce((total, each) => total + each[what], 0);
    return [kind.padEnd(44), of.length, sum("accepted"), sum("unavailable"), sum("seconds")]
      .map((cell) => String(cell).padStart(9))
      .join("");
  });
  const head = ["fault".padEnd(44), "held", "accepted", "503", "seconds"].map((cell) => cell.padStart(9));
  const total = `${held.length} rounds held, ${failed} failed, in ${Math.round(seconds)} s`;
  return `\n  ${[head.join(""), ...lines, total].join("\n  ")}`;
}
