// The command `audit verify`: whether the audit log is as it was written. This folder knows the subcommands.

import { jsonLogger } from "@formation-mcp/assembly";
import { auditVerdict } from "@formation-mcp/assembly/http";
import { announceTarget, settingsFrom } from "../options.ts";

export async function audit([verb, ...args]: string[]): Promise<number> {
  if (verb !== "verify") {
    process.stderr.write("formation-mcp-http: write `audit verify`.\n");
    return 2;
  }
  const configuration = settingsFrom(args);
  announceTarget(configuration);
  const { chains, lines, problems } = await auditVerdict(configuration, jsonLogger("warn"));
  for (const { chain, seq, what } of problems) process.stdout.write(`${chain} ${seq}: ${what}\n`);
  process.stdout.write(
    `${lines} lines in ${chains} chains: ${problems.length === 0 ? "as they were written" : `${problems.length} problems`}.\n`,
  );
  return problems.length === 0 ? 0 : 1;
}
