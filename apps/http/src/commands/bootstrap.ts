// The command `bootstrap`: a new one-time token for the first admin, in place of the one that the first start
// printed.

import { jsonLogger } from "@formation-mcp/assembly";
import { hasStore, newBootstrapToken } from "@formation-mcp/assembly/http";
import { announceTarget, localUrl, settingsFrom } from "../options.ts";

export async function bootstrap(args: string[]): Promise<number> {
  const configuration = settingsFrom(args);
  announceTarget(configuration);
  if (!hasStore(configuration)) {
    process.stderr.write("formation-mcp-http: there was nothing yet; new records are made there now.\n");
  }
  const publicUrl = configuration.publicUrl ?? localUrl(configuration, configuration.port);
  const token = await newBootstrapToken(configuration, publicUrl, jsonLogger("warn"));
  if (token === null) {
    process.stderr.write("formation-mcp-http: there is an account already; its admins admit others.\n");
    return 1;
  }
  process.stdout.write(`formation-mcp login --server ${publicUrl} --bootstrap ${token}\n`);
  return 0;
}
