// @module-tag slow

// Virtual nodes in virtual time: messages are lost, late or duplicated, processes die, networks split. Every
// operation ends with a true result, capacity and quotas hold at every moment, and no instance ever runs
// twice. SIMULATION_SEED replays one seed; SIMULATION_NODES and SIMULATION_OPERATIONS add a run of that size,
// beside SIMULATION_ROUNDS of the usual size.

import { fileURLToPath } from "node:url";
import { run } from "@formation-mcp/os";
import { expect, test } from "vitest";
import type { Report, Size } from "../support/simulation/experiment.ts";

const MAIN = fileURLToPath(new URL("../support/simulation/main.ts", import.meta.url));
const LONGEST_MS = 2 * 3_600_000;
const given = (name: string) => {
  const value = process.env[`SIMULATION_${name}`];
  return value === undefined ? undefined : Number(value);
};
const USUAL = { nodes: 20, operations: 1000 };
const large = { nodes: given("NODES") ?? 0, operations: given("OPERATIONS") ?? 0 };
const seed = given("SEED") ?? Math.floor(Math.random() * 1_000_000);
const rounds = given("ROUNDS") ?? (large.nodes > 0 ? 50 : 2);

async function play({ seed, nodes, operations }: Size): Promise<Report> {
  const env = { PATH: process.env["PATH"] ?? "", SIMULATION_SEED: String(seed) };
  const { stdout, stderr } = await run(process.execPath, ["--conditions=formation-source", MAIN], {
    env: { ...env, SIMULATION_NODES: String(nodes), SIMULATION_OPERATIONS: String(operations) },
    timeoutMs: LONGEST_MS,
  });
  if (!stdout.startsWith("{")) throw new Error(`SIMULATION_SEED=${seed}: ${stderr}`);
  return JSON.parse(stdout) as Report;
}

async function hold(size: Size): Promise<void> {
  const { counts, seconds, virtualSeconds, skewMs, offences } = await play(size);
  const { seed, nodes, operations } = size;
  const what = `seed ${seed}: ${nodes} nodes, ${operations} operations, ${counts["machines started"]} machines`;
  const how = `clocks off by ${skewMs / 1000} s at most, ${virtualSeconds} s in ${seconds} s`;
  process.stderr.write(`  ${what}, ${how}: ${offences.length === 0 ? "held" : "broken"}\n`);
  const again = `SIMULATION_SEED=${seed} SIMULATION_NODES=${nodes} SIMULATION_OPERATIONS=${operations}`;
  expect(offences, again).toEqual([]);
  expect(counts["operations completed"], again).toBeGreaterThan(operations / 2);
}

test("whatever goes wrong in the fleet, everything ends truthfully and nothing is promised twice", {
  retry: 0,
  timeout: LONGEST_MS,
}, async () => {
  for (let at = 0; at < rounds; at++) await hold({ ...USUAL, seed: seed + at });
});

if (large.nodes > 0)
  test("the same holds for a large fleet", { retry: 0, timeout: LONGEST_MS }, () => hold({ ...large, seed }));

test("the same seed is the same history", { timeout: LONGEST_MS }, async () => {
  const size = { seed: 7, nodes: 5, operations: 120 };
  const timeless = { seconds: 0, cpuSeconds: 0 };
  const [one, other] = [await play(size), await play(size)];
  expect({ ...other, ...timeless }).toEqual({ ...one, ...timeless });
});
