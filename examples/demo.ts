// The main use as a demo: a real MCP client starts the bundled stdio server, builds examples/hello, ships it,
// fetches its page from inside the VM, restarts it, deletes it, and checks that nothing is left.

import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { startAgent } from "./agent.ts";

const { values: options } = parseArgs({
  options: {
    keep: { type: "boolean" },
    help: { type: "boolean", short: "h" },
    "state-dir": { type: "string" },
  },
});
if (options.help) {
  process.stdout.write(`demo: a Formfile becomes a VM that answers, through the bundled MCP server.

  --keep            leave the VM running, and print its URL and the JSON for a desktop host
  --state-dir DIR   where everything is kept (default: a temporary directory; with --keep the usual one)
`);
  process.exit(0);
}

const root = dirname(import.meta.dirname);
const bundle = join(root, "apps/stdio/dist/formation-mcp.mjs");
const example = join(root, "examples/hello");
const started = performance.now();
const say = (text: string) =>
  process.stdout.write(`${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}\n`);

const temporary =
  options.keep || options["state-dir"] ? null : mkdtempSync(join(tmpdir(), "formation-demo-"));
const stateDir =
  options["state-dir"] ??
  temporary ??
  join(process.env["XDG_STATE_HOME"] ?? join(homedir(), ".local/state"), "formation-mcp");
const args = [bundle, "--allow-dir", example, "--state-dir", stateDir];
/** The environment of this process goes to the server too, except the settings that choose the server. */
const settings = Object.entries(process.env).filter(
  (entry): entry is [string, string] =>
    entry[1] !== undefined && entry[0].startsWith("FORMATION_") && entry[0] !== "FORMATION_URL",
);

const { client, call, finished } = startAgent("formation-demo", say);

function firstUrl(status: Record<string, unknown>): string {
  const url = (status["urls"] as string[])[0];
  if (url === undefined) throw new Error(`The VM has no URL: ${JSON.stringify(status, null, 2)}`);
  return url;
}

async function page(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.text();
}

async function story(): Promise<void> {
  say(`state directory: ${stateDir}`);
  await client.connect(
    new StdioClientTransport({
      command: process.execPath,
      args,
      env: Object.fromEntries(settings),
      stderr: "inherit",
    }),
  );
  const { tools } = await client.listTools();
  say(
    `connected over stdio (protocol ${client.getNegotiatedProtocolVersion?.() ?? "?"}); ${tools.length} tools: ${tools.map((tool) => tool.name).join(" ")}`,
  );

  say("pack_build: examples/hello");
  const formfile = readFileSync(join(example, "Formfile.yaml"), "utf8");
  const build = await call("pack_build", { formfile, context_dir: example });
  await finished(build, "The build");
  say(`built ${build["build_id"]}`);

  say("pack_ship: booting a VM");
  await finished(
    await call("pack_ship", { build_id: build["build_id"], instance_name: "hello" }),
    "The ship",
  );
  const live = await call("vm_status", { instance: "hello" });
  const url = firstUrl(live);
  say(`the VM answers at ${url}:`);
  process.stdout.write(`${await page(url)}\n`);
  say(`what RUN wrote in the build: ${(await page(new URL("built.txt", url).href)).trim()}`);
  say(`vm_status: ${JSON.stringify(live, null, 2)}`);
  const logs = await call("vm_logs", { instance: "hello", tail: 5 });
  say(`vm_logs: ${JSON.stringify(logs, null, 2)}`);

  if (options.keep) return keep(url);

  say("vm_control: restart");
  await finished(await call("vm_control", { instance: "hello", action: "restart" }), "The restart");
  const again = firstUrl(await call("vm_status", { instance: "hello" }));
  if (!(await page(again)).includes("Hello from a VM"))
    throw new Error("The page is gone after the restart.");
  say(`answers again at ${again}`);

  say("vm_delete");
  await finished(await call("vm_delete", { instance: "hello", confirm: "hello" }), "The delete");
  const list = (await call("vm_list", {}))["instances"] as unknown[];
  if (list.length !== 0) throw new Error(`vm_list still shows ${JSON.stringify(list)}`);
  await proveNothingLeft(again);
}

function keep(url: string): void {
  const host = { mcpServers: { formation: { command: process.execPath, args } } };
  say(`the VM keeps running: ${url}`);
  process.stdout.write(
    `\nFor a desktop host's configuration of MCP servers:\n\n${JSON.stringify(host, null, 2)}\n\n`,
  );
}

/** Nothing of the VM may be left: its port is free, its process has ended, and its directory is removed. */
async function proveNothingLeft(url: string): Promise<void> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(3000) }).then(
    () => "still answers",
    () => null,
  );
  if (answer) throw new Error(`${url} ${answer}`);
  const machines = join(stateDir, "h", "machines");
  const left = await settled(
    () => readdirSync(machines, { withFileTypes: true }).filter((entry) => entry.isDirectory()).length,
  );
  if (left !== 0) throw new Error(`${left} machine directories are left in ${machines}`);
  const qemu = await settled(() => processesUnder(machines).length);
  if (qemu !== 0) throw new Error(`${qemu} processes still work in ${machines}`);
  say("nothing is left: the port is closed, no machine directory, no process");
}

function processesUnder(directory: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory);
      } catch {
        return false;
      }
    });
}

async function settled(count: () => number): Promise<number> {
  for (let round = 0; round < 50 && count() !== 0; round++) await delay(100);
  return count();
}

/**
 * Ends the worker of a temporary state directory and removes the directory, with everything that a failed run
 * left.
 */
async function purge(): Promise<void> {
  await promisify(execFile)(process.execPath, [bundle, "purge", "--yes", "--state-dir", stateDir]);
}

try {
  await story();
  say("done");
} catch (error) {
  process.stderr.write(`\nThe demo failed: ${error instanceof Error ? error.message : error}\n`);
  process.stderr.write("What this machine has and lacks: node apps/stdio/dist/formation-mcp.mjs doctor\n");
  process.exitCode = 1;
} finally {
  await client.close().catch(() => {});
  if (temporary) {
    await purge().catch((error: Error) =>
      process.stderr.write(`${temporary} could not be removed: ${error.message}\n`),
    );
  }
}
