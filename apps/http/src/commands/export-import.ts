// The commands `export` and `import`: everything that the server keeps as plain files, and back. A team moves
// with them from one machine to PostgreSQL and NATS.

import { jsonLogger } from "@formation-mcp/assembly";
import { exportAll, importAll, type TransferCounts } from "@formation-mcp/assembly/http";
import { announceTarget, settingsAnd } from "../options.ts";

export async function exportTo(args: string[]): Promise<number> {
  const { configuration, values } = settingsAnd(args, { to: { type: "string" } });
  if (values.to === undefined) return missing("export --to DIR");
  announceTarget(configuration);
  return report("wrote", await exportAll(configuration, values.to, jsonLogger("warn")));
}

export async function importFrom(args: string[]): Promise<number> {
  const { configuration, values } = settingsAnd(args, { from: { type: "string" } });
  if (values.from === undefined) return missing("import --from DIR");
  announceTarget(configuration);
  return report("read", await importAll(configuration, values.from, jsonLogger("warn")));
}

function report(what: string, { records, blobs, logs }: TransferCounts): number {
  process.stdout.write(`${what} ${records} records, ${blobs} blobs, ${logs} logs\n`);
  return 0;
}

function missing(usage: string): number {
  process.stderr.write(`formation-mcp-http: write \`${usage}\`.\n`);
  return 2;
}
