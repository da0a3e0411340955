// One round of faults on real processes: an action begins, a process is killed at a random moment, and
// afterwards all records must be true again. Every choice comes from the seed, so that a round can be
// replayed.

import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { seededRandom } from "@formation-mcp/base/testing/seeded-random";
import { identify, waitFor } from "@formation-mcp/os";
import { expectNothingLeft, leftovers } from "./leftovers.ts";
import { ended, must, type Peer, type Structured, sdkV2, workerOf } from "./server.ts";

export interface FaultOptions {
  stateDir: string;
  drivers: "real" | "fake";
  env: Record<string, string>;
  /**
   * The formfile of the build; it must serve HTTP on its exposed port. `variant` makes the build a new one.
   */
  formfile(variant: number): Structured;
  /** The usual maximum of an action, in milliseconds: the kill happens within it. */
  actionMs: number;
}

type Victim = "server" | "worker" | "machine" | "nobody";
const ACTIONS = ["build", "ship", "replace", "restart", "stop", "pause", "delete", "cancel"] as const;
const VICTIMS: Victim[] = ["server", "worker", "worker", "machine", "nobody"];

/** Shared by all rounds: one client, until its server is the victim, and the operations already checked. */
export interface FaultSession {
  peer: Peer | null;
  checked: Set<string>;
}

/** Plays a round and returns one line that reports it. */
export async function round(seed: number, options: FaultOptions, session: FaultSession): Promise<string> {
  const random = seededRandom(Math.imul(seed, 0x9e3779b1));
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const action = pick(ACTIONS);
  const victim = pick(VICTIMS);
  const after = Math.floor(random() * options.actionMs);
  const told = `seed ${seed}: ${action}, kill -9 ${victim} after ${after} ms`;

  const before = leftovers(options.stateDir);
  let peer = session.peer ?? (await connect(options));
  session.peer = peer;
  try {
    const buildId = await prepare(peer, seed, action, options);
    const pending = begin(peer, seed, action, buildId, options).catch(() => null);
    await delay(after);
    kill(victim, peer, options);
    if (victim === "server") {
      await peer.close().catch(() => {});
      peer = await connect(options);
      session.peer = peer;
    }
    await pending;
    await settle(peer);
    await checkTruth(peer, options);
    await clear(peer);
    await checkOperations(peer, session.checked);
  } catch (error) {
    throw new Error(`${told}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
  await expectNothingLeft(options.stateDir, before).catch((error: Error) => {
    throw new Error(`${told}: ${error.message}`);
  });
  return told;
}

async function connect(options: FaultOptions): Promise<Peer> {
  return sdkV2(
    { stateDir: options.stateDir, env: { ...options.env, FORMATION_DRIVERS: options.drivers } },
    "modern",
  );
}

/** Makes what the action needs: a build, and a running VM for actions on VMs. */
async function prepare(peer: Peer, seed: number, action: string, options: FaultOptions): Promise<string> {
  if (action === "build") return "";
  const build = await ended(peer, await must(peer, "pack_build", { formfile: options.formfile(0) }));
  const buildId = String(build["build_id"] ?? (build["record"] as Structured)["id"]);
  if (action !== "ship" && action !== "cancel") {
    await ended(peer, await must(peer, "pack_ship", { build_id: buildId, instance_name: `fault-${seed}` }));
  }
  return buildId;
}

function begin(
  peer: Peer,
  seed: number,
  action: string,
  buildId: string,
  options: FaultOptions,
): Promise<unknown> {
  const instance = `fault-${seed}`;
  const key = { idempotency_key: `round-${seed}`, wait_seconds: 30 };
  switch (action) {
    case "build":
      return peer.call("pack_build", { formfile: options.formfile(seed), ...key });
    case "ship":
      return peer.call("pack_ship", { build_id: buildId, instance_name: instance, ...key });
    case "replace":
      return peer.call("pack_ship", { build_id: buildId, instance_name: instance, replace: true, ...key });
    case "delete":
      return peer.call("vm_delete", { instance, confirm: instance, ...key });
    case "cancel":
      return peer
        .call("pack_ship", { build_id: buildId, instance_name: instance, wait_seconds: 0 })
        .then(({ structured }) =>
          peer.call("operation_cancel", { operation_id: structured["operation_id"] }),
        );
    default:
      return peer.call("vm_control", { instance, action, ...key });
  }
}

function kill(victim: Victim, peer: Peer, options: FaultOptions): void {
  const pids =
    victim === "server"
      ? [peer.pid]
      : victim === "worker"
        ? [workerOf(options.stateDir)?.pid]
        : victim === "machine"
          ? machineProcesses(options.stateDir).map((each) => each.pid)
          : [];
  for (const pid of pids) {
    if (pid !== undefined && identify(pid)) process.kill(pid, "SIGKILL");
  }
}

/** Processes in the directory of a machine, with the machine's id. */
function machineProcesses(stateDir: string): { pid: number; machine: string }[] {
  const machines = join(stateDir, "h", "machines");
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const cwd = readlinkSync(`/proc/${pid}/cwd`);
        if (!cwd.startsWith(`${machines}/`)) return [];
        return [{ pid: Number(pid), machine: cwd.slice(machines.length + 1).split("/")[0] ?? "" }];
      } catch {
        return [];
      }
    });
}

/** Follows every unfinished operation to its end. */
async function settle(peer: Peer): Promise<void> {
  for (const state of ["queued", "running"]) {
    const { operations } = await must(peer, "operation_list", { state });
    for (const operation of operations as Structured[]) {
      const last = await ended(peer, operation);
      if (last["done"] !== true) throw new Error(`never ended: ${JSON.stringify(last)}`);
    }
  }
}

/** The records must be true: a running VM answers, a failed one has a reason, and none runs twice. */
async function checkTruth(peer: Peer, options: FaultOptions): Promise<void> {
  const { instances } = await must(peer, "vm_list", {});
  for (const each of instances as Structured[]) {
    const name = String(each["name"]);
    await waitFor(
      async () => {
        const status = await must(peer, "vm_status", { instance: name });
        const state = String(status["state"]);
        const url = (status["urls"] as string[])[0];
        if (state === "running") return url !== undefined && (await answers(url));
        if (state === "failed") return status["error"] !== undefined;
        return ["stopped", "paused"].includes(state);
      },
      { timeoutMs: 60_000, everyMs: 250, what: `${name} to be what its record says` },
    ).catch(async (error: Error) => {
      throw new Error(
        `${error.message}: ${JSON.stringify(await must(peer, "vm_status", { instance: name }))}`,
      );
    });
  }
  const machines = new Set(machineProcesses(options.stateDir).map((each) => each.machine));
  if (machines.size > (instances as unknown[]).length) {
    throw new Error(`${machines.size} machines run for ${(instances as unknown[]).length} instances`);
  }
}

async function answers(url: string): Promise<boolean> {
  return fetch(url, { signal: AbortSignal.timeout(5000), headers: { connection: "close" } }).then(
    () => true,
    () => false,
  );
}

async function clear(peer: Peer): Promise<void> {
  const { instances } = await must(peer, "vm_list", {});
  for (const each of instances as Structured[]) {
    const name = String(each["name"]);
    const last = await ended(peer, await must(peer, "vm_delete", { instance: name, confirm: name }));
    if (last["done"] !== true) throw new Error(`the delete never ended: ${JSON.stringify(last)}`);
  }
}

/** Every operation has ended and has a reason. */
async function checkOperations(peer: Peer, checked: Set<string>): Promise<void> {
  const { operations } = await must(peer, "operation_list", { limit: 20 });
  for (const operation of operations as Structured[]) {
    const id = String(operation["operation_id"]);
    if (checked.has(id)) continue;
    const last = await must(peer, "operation_get", { id: operation["operation_id"], wait_seconds: 0 });
    const truthful = last["state"] === "completed" || (last["error"] as Structured | undefined)?.["message"];
    if (last["done"] !== true || !truthful) throw new Error(`no truthful end: ${JSON.stringify(last)}`);
    checked.add(id);
  }
}
