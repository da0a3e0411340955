// Serves the tools over stdio to one host. They run on this machine as its user, or on a team's server as the
// account that signs in there. The modules of the one way are not loaded for the other.

import { parseArgs } from "node:util";
import { jsonLogger, lazySystem, readConfiguration, warnUnknownVariables } from "@formation-mcp/assembly";
import { readRemoteConfiguration } from "@formation-mcp/assembly/settings";
import { allScopes, localPrincipal, parseScopes, type Scope } from "@formation-mcp/auth";
import { createMcpServerFactory } from "@formation-mcp/mcp";
import { createStdioTransport } from "@formation-mcp/mcp/stdio";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { VERSION } from "../version.ts";

export async function serve(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      "allow-dir": { type: "string", multiple: true },
      "read-only": { type: "boolean" },
      scopes: { type: "string" },
      "state-dir": { type: "string" },
    },
  });
  const configuration = readConfiguration({ stateDir: values["state-dir"], allowDirs: values["allow-dir"] });
  const logger = jsonLogger(configuration.logLevel);
  warnUnknownVariables(logger, configuration);
  const scopes = narrow(
    values.scopes === undefined ? allScopes() : parseScopes(values.scopes),
    values["read-only"],
  );
  const principal = localPrincipal(process.getuid?.() ?? 0, scopes);
  const remote = readRemoteConfiguration();
  const system =
    remote.url === null
      ? lazySystem({ configuration, logger, program: { version: VERSION, entry: process.argv[1] ?? "" } })
      : await import("../remote/system.ts").then(({ remoteSystem }) =>
          remoteSystem({ remote, configuration, scopes, logger }),
        );
  const transport = createStdioTransport({
    input: process.stdin,
    output: process.stdout,
    onRefused: (why) => logger.log("warn", why),
  });
  const server = serveStdio(
    createMcpServerFactory({ control: system.control, principalFor: () => principal, version: VERSION }),
    // After a colon the error may quote the client's message.
    { transport, onerror: ({ message }) => logger.log("warn", message.split(":", 1)[0] ?? "") },
  );
  await Promise.race([transport.closed, untilSignal()]);
  await server.close();
  await system.close();
  return 0;
}

/** Without `admin`, which stdio never has; with `--read-only` only the reading scopes. */
function narrow(scopes: ReadonlySet<Scope>, readOnly = false): ReadonlySet<Scope> {
  return new Set([...scopes].filter((scope) => scope !== "admin" && (!readOnly || scope.endsWith(":read"))));
}

function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
  });
}
