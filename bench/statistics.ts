// Ratios from interleaved pairs: the ratio of medians with a bootstrap interval, because these machines are
// noisy and absolute times are not comparable.

import { seededRandom } from "@formation-mcp/base/testing/seeded-random";

/** Runs both sides in turn, A B A B …, after one warm-up of each, and returns their results. */
export async function pairs(
  count: number,
  ours: () => Promise<number>,
  baseline: () => Promise<number>,
  onPair?: (done: number) => void,
): Promise<{ ours: number[]; baseline: number[] }> {
  await ours();
  await baseline();
  const seen = { ours: [] as number[], baseline: [] as number[] };
  for (let i = 0; i < count; i++) {
    // The order alternates, so that neither side always profits from the warm-up by the other.
    if (i % 2 === 0) seen.ours.push(await ours());
    seen.baseline.push(await baseline());
    if (i % 2 === 1) seen.ours.push(await ours());
    onPair?.(i + 1);
  }
  return seen;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

export interface Ratio {
  ratio: number;
  low: number;
  high: number;
  ours: number;
  baseline: number;
}

/** The ratio of medians and its 95 % bootstrap percentile interval (2,000 resamples, fixed seed). */
export function ratioOfMedians(seen: { ours: readonly number[]; baseline: readonly number[] }): Ratio {
  const random = seededRandom(42);
  const resample = (values: readonly number[]) =>
    values.map(() => values[Math.floor(random() * values.length)] ?? 0);
  const ratios = Array.from(
    { length: 2000 },
    () => median(resample(seen.ours)) / median(resample(seen.baseline)),
  );
  ratios.sort((a, b) => a - b);
  return {
    ratio: median(seen.ours) / median(seen.baseline),
    low: ratios[50] ?? Number.NaN,
    high: ratios[1949] ?? Number.NaN,
    ours: median(seen.ours),
    baseline: median(seen.baseline),
  };
}

/** Milliseconds that something takes. */
export async function timed(action: () => Promise<unknown> | unknown): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
