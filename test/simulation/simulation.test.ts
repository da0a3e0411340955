// Virtual nodes in virtual time: whatever is lost, late, doubled, dead or cut off, every operation ends truthfully,
// capacity and quotas hold, and no instance runs twice. SIMULATION_SEED replays one seed; SIMULATION_NODES and
// SIMULATION_OPERATIONS make it larger.

import { fileURLToPath } from "node:url";
import { run } from "@formation-mcp/os";
import { expect, test } from "vitest";
import type { Report } from "../support/simulation/experiment.ts";

const MAIN = fileURLToPath(new URL("../support/simulation/main.ts", import.meta.url));
const seed = process.env["SIMULATION_SEED"];
const seeds = seed === undefined ? [1, Math.floor(Math.random() * 1_000_000)] : [Number(seed)];
const nodes = process.env["SIMULATION_NODES"] ?? "12";
const operations = process.env["SIMULATION_OPERATIONS"] ?? "600";
const LONGEST_MS = 3_600_000;

async function play(seed: number, size = { nodes, operations }): Promise<Report> {
  const env = { PATH: process.env["PATH"] ?? "", SIMULATION_SEED: String(seed) };
  const { stdout, stderr } = await run(process.execPath, ["--conditions=formation-source", MAIN], {
    env: { ...env, SIMULATION_NODES: size.nodes, SIMULATION_OPERATIONS: size.operations },
    timeoutMs: LONGEST_MS,
  });
  if (!stdout.startsWith("{")) throw new Error(`SIMULATION_SEED=${seed}: ${stderr}`);
  return JSON.parse(stdout) as Report;
}

test("whatever goes wrong in the fleet, everything ends truthfully and nothing is promised twice", {
  retry: 0,
  timeout: seeds.length * LONGEST_MS,
}, async () => {
  for (const each of seeds) {
    const report = await play(each);
    const { counts, seconds, virtualSeconds } = report;
    const told = `seed ${each}: ${nodes} nodes, ${counts["machines started"]} machines, ${virtualSeconds} s in ${seconds} s`;
    process.stderr.write(`  ${told}: ${report.offences.length === 0 ? "held" : "broken"}\n`);
    expect(
      report.offences,
      `SIMULATION_SEED=${each} SIMULATION_NODES=${nodes} SIMULATION_OPERATIONS=${operations}`,
    ).toEqual([]);
    expect(counts["operations completed"]).toBeGreaterThan(Number(operations) / 2);
  }
});

test("the same seed is the same history", { timeout: LONGEST_MS }, async () => {
  const size = { nodes: "5", operations: "120" };
  const [one, other] = [await play(7, size), await play(7, size)];
  expect({ ...other, seconds: 0 }).toEqual({ ...one, seconds: 0 });
});
