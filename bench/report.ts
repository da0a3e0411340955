// One line for each comparison: the ratio, its interval, its limit, and what was compared.

import type { Ratio } from "./statistics.ts";

export interface Line {
  name: string;
  /** The limit of the ratio, and its direction. */
  limit: { atMost: number } | { atLeast: number } | null;
  /** Which end of the interval is compared with the limit. */
  judge: "ratio" | "low";
  result: Ratio;
  against: string;
}

const missed: string[] = [];

export function print(line: Line): void {
  const { result, limit } = line;
  const value = line.judge === "low" ? result.low : result.ratio;
  const held = limit === null || ("atMost" in limit ? value <= limit.atMost : value >= limit.atLeast);
  const goal = limit === null ? "" : "atMost" in limit ? `≤ ${limit.atMost}×` : `≥ ${limit.atLeast}×`;
  if (!held) missed.push(line.name);
  const verdict = limit === null ? "" : held ? "held" : "MISSED";
  process.stdout.write(
    `${line.name.padEnd(44)} ${result.ratio.toFixed(2)}× [${result.low.toFixed(2)}, ${result.high.toFixed(2)}]  ` +
      `${goal.padEnd(8)} ${verdict.padEnd(6)} ${line.against}\n`,
  );
}

/** Names of the comparisons that missed their limit. */
export function missedNames(): readonly string[] {
  return missed;
}

/** Prints the progress of a comparison to stderr, a few times. */
export function progress(name: string, pairs: number): (done: number) => void {
  const every = Math.max(1, Math.ceil(pairs / 4));
  return (done) => {
    if (done % every === 0 || done === pairs) say(`  ${name}: ${done} of ${pairs} pairs`);
  };
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
