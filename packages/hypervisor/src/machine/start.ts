// Starting a machine's QEMU: everything it may use is written down and made first, then the process, and what is known
// about it is written down before anything else happens.

import { closeSync, openSync, rmSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { identify, isAlive, spawnDetached, waitFor } from "@formation-mcp/os";
import { truncateHandedOver } from "../logs/offsets.ts";
import { readTail } from "../logs/tail.ts";
import type { StartHooks } from "../port.ts";
import { freeAccount, handOver, isShared } from "./accounts.ts";
import { diskError } from "./create.ts";
import { type Engine, placeOf } from "./deps.ts";
import { MACHINE_FILES } from "./files.ts";
import type { Journal } from "./journal.ts";
import { isOver, type Leash, tie, untie } from "./leash.ts";
import { BOOT_ID, type Machine } from "./machine.ts";
import { choosePorts, portTaken } from "./ports.ts";

const RETRIES = 3;
/** How long QEMU may take until it answers on its control socket. */
const SETUP_MS = 30_000;

export async function startMachine(
  engine: Engine,
  machine: Machine,
  hooks: StartHooks,
  leash: Leash | null,
): Promise<void> {
  machine.settle();
  if (machine.alive) return;
  if (hooks.signal.aborted) throw new FormationError("cancelled", "The machine was not started: cancelled.");
  await release(engine, machine.journal);
  try {
    ownAccount(engine, machine);
    const place = placeOf(engine, machine.journal.id);
    await Promise.all([
      engine.runner.prepare(machine.journal, place, hooks),
      // Made ahead, and asked for again below, where it is written down.
      engine.runner.egress(machine.journal),
    ]);
    for (let attempt = 1; ; attempt++) {
      try {
        await launch(engine, machine, hooks, leash);
        return;
      } catch (error) {
        if (attempt === RETRIES) throw plain(error, engine);
        if (error instanceof BindRace) machine.note({ forwards: [] });
        else if (error instanceof AccountRace) {
          await release(engine, machine.journal);
          ownAccount(engine, machine);
          await engine.runner.prepare(machine.journal, place, hooks);
        } else throw error;
      }
    }
  } catch (error) {
    machine.settle();
    if (machine.journal.phase === "stopped" && !machine.report.started) {
      machine.note({ exit: { reason: "killed", code: null } });
    }
    await release(engine, machine.journal);
    throw diskError(error);
  } finally {
    engine.reserved.delete(machine.journal.id);
  }
}

/** Takes back what a machine that does not run must not hold. */
export async function release(engine: Engine, journal: Journal): Promise<void> {
  const place = placeOf(engine, journal.id);
  await untie(place.runDirectory);
  await engine.runner.release(journal, place);
}

/** Another worker's machine may have its account by now; then it gets another. */
function ownAccount(engine: Engine, machine: Machine): void {
  if (!isShared(machine.journal.uid, machine.directory)) return;
  const uid = freeAccount(engine);
  machine.note({ uid });
  if (uid !== null) handOver(machine.directory, uid);
}

/** Another worker's machine was started with the same account at the same moment. */
class AccountRace extends Error {}

class BindRace extends Error {
  readonly port: number;
  constructor(port: number) {
    super(`port ${port}`);
    this.port = port;
  }
}

async function launch(
  engine: Engine,
  machine: Machine,
  hooks: StartHooks,
  leash: Leash | null,
): Promise<void> {
  const { settings } = engine;
  const { directory, journal } = machine;
  const accelerator = await engine.runner.accelerator();
  const forwards = await choosePorts(
    journal.ports,
    journal.forwards,
    portsOfOthers(engine, journal.id),
    settings.bindAddress,
  );
  engine.reserved.set(
    journal.id,
    forwards.map(({ port }) => port),
  );
  for (const file of ["status", "log"] as const) truncateSync(join(directory, MACHINE_FILES[file]), 0);
  truncateHandedOver(engine.journals.directory(journal.id), directory);
  machine.logEpoch++;
  rmSync(join(directory, MACHINE_FILES.qmp), { force: true });
  machine.beginReport();
  machine.problem = null;
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
    egress: await engine.runner.egress(journal),
  });
  hooks.onStep?.(
    "boot",
    accelerator === "tcg" ? "Starting the machine (emulated: no KVM here)." : "Starting the machine.",
  );
  // Read where nothing waits any more: it may have been prolonged or released meanwhile.
  const tied = leash?.until != null;
  const { program, args, env, unenforced } = engine.runner.command(
    machine.journal,
    placeOf(engine, journal.id),
    tied,
  );
  tie(directory, leash);
  const log = openSync(join(directory, MACHINE_FILES.log), "a");
  let pid: number;
  try {
    if (isOver(leash)) {
      throw new FormationError("unavailable", "The machine was not started: its leash had ended by then.", {
        step: "boot",
      });
    }
    pid = await spawnDetached(program, args, { cwd: directory, env, stdio: ["ignore", log, log] });
  } finally {
    closeSync(log);
  }
  const qemu = identify(pid);
  machine.note({ phase: "running", qemu, unenforced });
  await attached(machine, hooks.signal);
}

async function attached(machine: Machine, signal: AbortSignal): Promise<void> {
  const { qemu } = machine.journal;
  try {
    await waitFor(
      async () => {
        if (qemu === null || !isAlive(qemu)) {
          machine.readStatus();
          if (machine.report.started) return true; // it ran, and ended before we got to speak to it
          throw failure(machine);
        }
        return machine.attach().then(
          () => true,
          () => false,
        );
      },
      { timeoutMs: SETUP_MS, everyMs: 10, signal, what: "QEMU to answer" },
    );
    // Each of two workers looks after its process has its account: the later one sees the other.
    if (isShared(machine.journal.uid, machine.directory)) throw new AccountRace();
  } catch (error) {
    if (qemu !== null && isAlive(qemu)) process.kill(qemu.pid, "SIGKILL");
    await waitFor(() => qemu === null || !isAlive(qemu), {
      timeoutMs: 5000,
      everyMs: 10,
      what: "QEMU to end",
    });
    machine.settle();
    throw error;
  }
  machine.settle();
  machine.wake();
}

function portsOfOthers(engine: Engine, id: string): Set<number> {
  const ports = new Set<number>();
  for (const [other, machine] of engine.machines) {
    if (other === id) continue;
    for (const { port } of machine.journal.forwards) ports.add(port);
    for (const { port } of machine.journal.ports) if (port !== null) ports.add(port);
  }
  for (const [other, reserved] of engine.reserved)
    if (other !== id) for (const port of reserved) ports.add(port);
  return ports;
}

/** QEMU ended before it ran: its last words say why. */
function failure(machine: Machine): Error {
  const words = readTail(join(machine.directory, MACHINE_FILES.log), 4096).trim();
  const last = words.split("\n").at(-1) ?? "";
  const bind = /Could not set up host forwarding rule '[^']*:(\d+)-/.exec(words);
  if (bind) return new BindRace(Number(bind[1]));
  if (/cannot set up guest memory|Cannot allocate memory/.test(words)) {
    return new FormationError("limit", `The node has no ${machine.journal.memory_mb} MB of memory to give.`, {
      remedy: "Ask for less memory_mb, or stop other machines on the node.",
      step: "boot",
    });
  }
  return new FormationError(
    "unavailable",
    `The machine's process did not start: ${last || "it said nothing"}`,
    {
      remedy: "Run `formation-mcp doctor` on the node.",
      step: "boot",
    },
  );
}

function plain(error: unknown, engine: Engine): unknown {
  if (error instanceof BindRace) return portTaken(error.port, engine.settings.bindAddress);
  if (!(error instanceof AccountRace)) return error;
  return new FormationError("unavailable", "No account number of this host is free for the machine.", {
    remedy: "Try again, or set another uidBase for this worker.",
    step: "boot",
  });
}
