// A simulation as a separate program, because virtual time replaces the real time of a whole process.
// SIMULATION_SEED, SIMULATION_NODES and SIMULATION_OPERATIONS choose it; SIMULATION_TOLD=1 prints its course.

import { experiment } from "./experiment.ts";

const number = (name: string, otherwise: number) => Number(process.env[name] ?? otherwise);
const told = process.env["SIMULATION_TOLD"] !== undefined;

const report = await experiment(
  {
    seed: number("SIMULATION_SEED", 1),
    nodes: number("SIMULATION_NODES", 20),
    operations: number("SIMULATION_OPERATIONS", 2000),
  },
  (line) => {
    if (told) process.stderr.write(`  ${line}\n`);
  },
);
process.stdout.write(`${JSON.stringify(report, null, 1)}\n`);
process.exitCode = report.offences.length > 0 ? 1 : 0;
process.exit();
