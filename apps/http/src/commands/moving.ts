// `export` and `import`: everything that the server keeps, as plain files and back, whichever drivers it has: how a team
// moves from one machine to PostgreSQL and NATS.

import { jsonLogger } from "@formation-mcp/assembly";
import { exportAll, importAll, type TransferCounts } from "@formation-mcp/assembly/http";
import { announceTarget, settingsAnd } from "../options.ts";

export async function exportTo(args: string[]): Promise<number> {
  const { configuration, values } = settingsAnd(args, { to: { type: "string" } });
  if (values.to === undefined) return lacking("export --to DIR");
  announceTarget(configuration);
  return tell("wrote", await exportAll(configuration, values.to, jsonLogger("warn")));
}

export async function importFrom(args: string[]): Promise<number> {
  const { configuration, values } = settingsAnd(args, { from: { type: "string" } });
  if (values.from === undefined) return lacking("import --from DIR");
  announceTarget(configuration);
  return tell("read", await importAll(configuration, values.from, jsonLogger("warn")));
}

function tell(what: string, { records, blobs, logs }: TransferCounts): number {
  process.stdout.write(`${what} ${records} records, ${blobs} blobs, ${logs} logs\n`);
  return 0;
}

function lacking(usage: string): number {
  process.stderr.write(`formation-mcp-http: write \`${usage}\`.\n`);
  return 2;
}
