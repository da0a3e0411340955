// The command `doctor`: prints what this machine has, lacks and enforces. This folder knows the subcommands.

import { parseArgs } from "node:util";
import { readConfiguration } from "@formation-mcp/assembly";
import { type DoctorReport, examine } from "@formation-mcp/assembly/doctor";
import type { Command } from "../command.ts";

export const doctor: Command = {
  help: `formation-mcp doctor: say what this machine has, lacks, and enforces.

Usage
  formation-mcp doctor [--json] [--state-dir DIR]

Example
  formation-mcp doctor
`,
  async run(args) {
    const { values } = parseArgs({
      args,
      options: { json: { type: "boolean" }, "state-dir": { type: "string" } },
    });
    const configuration = readConfiguration({ stateDir: values["state-dir"] });
    const report = await examine(configuration);
    process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : render(report));
    return report.ready ? 0 : 1;
  },
};

function render(report: DoctorReport): string {
  const width = Math.max(...report.has.map((each) => each.what.length));
  const lines = report.has.map(({ what, value }) => `  ${what.padEnd(width)}  ${value}`);
  const enforced = report.enforced.map(
    ({ what, enforced, how }) => `  ${enforced ? "yes" : "NO "}  ${what}: ${how}`,
  );
  const problems = report.problems.map(({ problem, remedy }) => `  - ${problem}\n    ${remedy}`);
  return [
    "This machine",
    ...lines,
    "",
    ...(enforced.length ? [`Enforced here (${report.profile} profile)`, ...enforced, ""] : []),
    ...(problems.length
      ? ["What is missing", ...problems]
      : ["Ready: images can be built and VMs can run here."]),
    "",
  ].join("\n");
}
