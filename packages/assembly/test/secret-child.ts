// Opens a server's state directory as one of many first processes, and prints the secret that it found.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { newBootstrapToken, readHttpConfiguration } from "@formation-mcp/assembly/http";
import { silentLogger } from "@formation-mcp/contract";

const stateDir = process.argv[2] ?? "";
const configuration = readHttpConfiguration({ stateDir }, { HOME: stateDir });
await newBootstrapToken(configuration, "http://127.0.0.1:3010", silentLogger);
process.send?.(readFileSync(join(stateDir, "server", "master.key"), "hex"));
