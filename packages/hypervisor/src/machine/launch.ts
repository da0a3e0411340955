// One launch of a machine's process. What it may use is written into the journal first; then it is started
// with its leash, and its identity is recorded before anything else happens.

import { closeSync, openSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { identify, isAlive, spawnDetached, waitFor } from "@formation-mcp/os";
import { readTail } from "../logs/tail.ts";
import { truncateHandedOver } from "../logs/trim.ts";
import type { StartHooks } from "../port.ts";
import { isShared } from "./accounts.ts";
import type { HypervisorDeps } from "./deps.ts";
import { MACHINE_FILES } from "./files.ts";
import { isExpired, type PendingLeash, writeLeash } from "./leash.ts";
import { BOOT_ID, type Machine } from "./machine.ts";
import { choosePorts } from "./ports.ts";

/** How long the process may take until it answers on its control socket. */
const CONTROL_SOCKET_MS = 30_000;
const KILLED_MS = 5000;

/** A process of another worker was started as the same account at the same moment. */
export class AccountTaken extends Error {}

/** A host port was free when it was chosen, and was taken when the process bound it. */
export class PortTaken extends Error {
  readonly port: number;
  constructor(port: number) {
    super(`port ${port}`);
    this.port = port;
  }
}

/**
 * Starts the process; resolves when its control socket answers.
 * @throws AccountTaken, PortTaken: worth another launch. FormationError otherwise. There is no process then.
 */
export async function launch(
  deps: HypervisorDeps,
  machine: Machine,
  hooks: StartHooks,
  leash: PendingLeash | null,
): Promise<void> {
  const accelerator = await deps.driver.accelerator();
  const forwards = await reservePorts(deps, machine);
  resetFiles(deps, machine);
  machine.note({
    phase: "starting",
    forwards,
    accelerator,
    qemu: null,
    boot_id: BOOT_ID,
    paused: false,
    stopping: false,
    started_at: null,
    reported: null,
    exit: null,
    egress: await deps.driver.setEgress(machine.journal),
  });
  const isEmulated = accelerator === "tcg";
  hooks.onStep?.("boot", `Starting the machine${isEmulated ? " (emulated: no KVM here)" : ""}.`);
  const { pid, unenforced } = await spawnProcess(deps, machine, leash);
  machine.note({ phase: "running", qemu: identify(pid), unenforced });
  await waitForControlSocket(machine, hooks.signal);
}

/** Chooses the host ports to forward, and keeps other starts from choosing the same ones. */
async function reservePorts(deps: HypervisorDeps, machine: Machine) {
  const { id, ports, forwards: last } = machine.journal;
  const forwards = await choosePorts(ports, last, portsOfOthers(deps, id), deps.settings.bindAddress);
  deps.reservedPorts.set(
    id,
    forwards.map(({ port }) => port),
  );
  return forwards;
}

function portsOfOthers(deps: HypervisorDeps, id: string): Set<number> {
  const ports = new Set<number>();
  for (const [other, machine] of deps.machines) {
    if (other === id) continue;
    for (const { port } of machine.journal.forwards) ports.add(port);
    for (const { port } of machine.journal.ports) if (port !== null) ports.add(port);
  }
  for (const [other, reserved] of deps.reservedPorts)
    if (other !== id) for (const port of reserved) ports.add(port);
  return ports;
}

/** Removes what an earlier boot left in the run directory; log lines that were not handed over stay. */
function resetFiles(deps: HypervisorDeps, machine: Machine): void {
  const { runDirectory, journal } = machine;
  for (const file of ["status", "log"] as const) truncateSync(join(runDirectory, MACHINE_FILES[file]), 0);
  truncateHandedOver(deps.journals.paths(journal.id).directory, runDirectory);
  machine.logEpoch++;
  rmSync(join(runDirectory, MACHINE_FILES.qmp), { force: true });
  machine.resetReport();
  machine.problem = null;
}

async function spawnProcess(deps: HypervisorDeps, machine: Machine, leash: PendingLeash | null) {
  const { runDirectory, journal } = machine;
  // From here to the spawn nothing is awaited: the leash may have been prolonged or released until now, and
  // not after.
  const guarded = leash?.until != null;
  const paths = deps.journals.paths(journal.id);
  const { program, args, env, unenforced } = deps.driver.command(journal, paths, guarded);
  writeLeash(runDirectory, leash);
  const log = openSync(join(runDirectory, MACHINE_FILES.log), "a");
  try {
    if (isExpired(leash)) {
      throw new FormationError("unavailable", "The machine was not started: its leash had ended by then.", {
        step: "boot",
      });
    }
    const pid = await spawnDetached(program, args, { cwd: runDirectory, env, stdio: ["ignore", log, log] });
    return { pid, unenforced };
  } finally {
    closeSync(log);
  }
}

async function waitForControlSocket(machine: Machine, signal: AbortSignal): Promise<void> {
  const { qemu, uid } = machine.journal;
  try {
    await waitFor(
      async () => {
        if (qemu === null || !isAlive(qemu)) {
          machine.readStatus();
          if (machine.report.started) return true; // The guest ran, and ended before we could connect.
          throw launchFailure(machine);
        }
        return machine.attach().then(
          () => true,
          () => false,
        );
      },
      { timeoutMs: CONTROL_SOCKET_MS, everyMs: 10, signal, what: "QEMU to answer" },
    );
    // Of two workers that chose the same account, each checks after its process runs as it: the later one
    // sees the other's.
    if (isShared(uid, machine.runDirectory)) throw new AccountTaken();
  } catch (error) {
    if (qemu !== null && isAlive(qemu)) process.kill(qemu.pid, "SIGKILL");
    const gone = { timeoutMs: KILLED_MS, everyMs: 10, what: "QEMU to end" };
    await waitFor(() => qemu === null || !isAlive(qemu), gone);
    machine.noteExit();
    throw error;
  }
  machine.noteExit();
  machine.announceChange();
}

/** Why the process ended before the guest ran, from the last lines of its log. */
function launchFailure(machine: Machine): Error {
  const log = readTail(join(machine.runDirectory, MACHINE_FILES.log), 4096).trim();
  const bind = /Could not set up host forwarding rule '[^']*:(\d+)-/.exec(log);
  if (bind) return new PortTaken(Number(bind[1]));
  if (/cannot set up guest memory|Cannot allocate memory/.test(log)) {
    return new FormationError("limit", `The node has no ${machine.journal.memory_mb} MB of memory to give.`, {
      remedy: "Ask for less memory_mb, or stop other machines on the node.",
      step: "boot",
    });
  }
  const lastLine = log.split("\n").at(-1) || "it said nothing";
  return new FormationError("unavailable", `The machine's process did not start: ${lastLine}`, {
    remedy: "Run `formation-mcp doctor` on the node.",
    step: "boot",
  });
}
