// The whole system as a host uses it, in a temporary state directory: the bundled server, its worker, and a
// build of examples/hello that can be shipped any number of times.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { identify, isAlive, waitFor } from "@formation-mcp/os";
import { Rpc } from "./rpc.ts";
import type { Scope } from "./scope.ts";

const ROOT = dirname(import.meta.dirname);
const EXAMPLE = join(ROOT, "examples/hello");
export const BUNDLE = join(ROOT, "apps/stdio/dist/formation-mcp.mjs");

export interface Site {
  stateDir: string;
  rpc: Rpc;
  buildId: string;
  /** Ships the build under a name; resolves with the URL when the tool reports that it is live. */
  ship(name: string): Promise<string>;
  remove(name: string): Promise<void>;
  workerPid(): number;
  /** The process of the only machine that runs now. */
  machinePid(): number;
}

export async function openSite(scope: Scope): Promise<Site> {
  const stateDir = scope.directory();
  scope.defer(() => endProcesses(stateDir));
  const rpc = new Rpc([BUNDLE, "--allow-dir", EXAMPLE, "--state-dir", stateDir], process.env);
  scope.defer(async () => {
    await removeAll(rpc).catch(() => {});
    await rpc.close();
  });
  await rpc.initialize();
  const formfile = readFileSync(join(EXAMPLE, "Formfile.yaml"), "utf8");
  const built = await rpc.finish("pack_build", { formfile, context_dir: EXAMPLE });
  const buildId = String(built["build_id"]);
  return {
    stateDir,
    rpc,
    buildId,
    async ship(name) {
      const shipped = await rpc.finish("pack_ship", { build_id: buildId, instance_name: name });
      const urls = (shipped["urls"] ?? []) as string[];
      const first = urls[0] ?? (await urlOf(rpc, name));
      return first;
    },
    async remove(name) {
      await rpc.finish("vm_delete", { instance: name, confirm: name });
    },
    workerPid: () => (JSON.parse(readFileSync(join(stateDir, "worker.json"), "utf8")) as { pid: number }).pid,
    machinePid() {
      const pids = processesIn(join(stateDir, "h", "machines"));
      if (pids.length !== 1) throw new Error(`${pids.length} machines run`);
      return pids[0] as number;
    },
  };
}

async function urlOf(rpc: Rpc, instance: string): Promise<string> {
  const status = await rpc.call("vm_status", { instance });
  const url = (status["urls"] as string[])[0];
  if (url === undefined) throw new Error(`${instance} has no URL`);
  return url;
}

async function removeAll(rpc: Rpc): Promise<void> {
  const { instances } = await rpc.call("vm_list", {});
  for (const { name } of instances as { name: string }[]) {
    await rpc.finish("vm_delete", { instance: name, confirm: name });
  }
}

/** Asks the worker to end, and kills every process that still runs below the directory. */
async function endProcesses(stateDir: string): Promise<void> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    const left = processesIn(stateDir).flatMap((pid) => identify(pid) ?? []);
    for (const { pid } of left) process.kill(pid, signal);
    const gone = () => left.every((each) => !isAlive(each));
    await waitFor(gone, { timeoutMs: 20_000, everyMs: 50, what: "processes to end" }).catch(() => {});
  }
}

function processesIn(directory: string): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/cwd`).startsWith(directory);
      } catch {
        return false;
      }
    })
    .map(Number);
}
