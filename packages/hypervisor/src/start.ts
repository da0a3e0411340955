// Starting a machine's QEMU: everything it may use is written down and made first, then the process, and what is known
// about it is written down before anything else happens.

import {
  chownSync,
  closeSync,
  copyFileSync,
  linkSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { identify, isAlive, spawnDetached, waitFor } from "@formation-mcp/os";
import { MACHINE_FILES, QEMU, qemuArguments } from "./command-line.ts";
import { CONFIG_FILE, diskError } from "./create.ts";
import type { Engine } from "./engine.ts";
import { ensureInitramfs } from "./initramfs.ts";
import type { Journal } from "./journal.ts";
import { ensureKernel } from "./kernel.ts";
import { BOOT_ID, type Machine } from "./machine.ts";
import { truncateHandedOver } from "./offsets.ts";
import type { StartHooks } from "./port.ts";
import { choosePorts, portTaken } from "./ports.ts";
import { readTail } from "./tail.ts";

const BIND_RETRIES = 3;
/** How long QEMU may take until it answers on its control socket. */
const SETUP_MS = 30_000;

export async function startMachine(engine: Engine, machine: Machine, hooks: StartHooks): Promise<void> {
  machine.settle();
  if (machine.alive) return;
  if (hooks.signal.aborted) throw new FormationError("cancelled", "The machine was not started: cancelled.");
  await release(engine, machine.journal);
  try {
    await prepare(engine, machine, hooks);
    for (let attempt = 1; ; attempt++) {
      try {
        await launch(engine, machine, hooks);
        return;
      } catch (error) {
        if (!(error instanceof BindRace) || attempt === BIND_RETRIES) throw plain(error, engine);
        machine.note({ forwards: [] });
      }
    }
  } catch (error) {
    await release(engine, machine.journal);
    throw diskError(error);
  } finally {
    engine.reserved.delete(machine.journal.id);
  }
}

/** Takes back what a machine that does not run must not hold. */
export async function release(engine: Engine, journal: Journal): Promise<void> {
  if (journal.uid !== null) await engine.firewall.remove(journal.uid);
  await engine.cgroups.remove(journal.id);
}

async function prepare(engine: Engine, machine: Machine, hooks: StartHooks): Promise<void> {
  const { settings } = engine;
  const kernel = await ensureKernel({
    directory: join(settings.stateDir, "kernel"),
    override: settings.kernel,
    signal: hooks.signal,
    onStep: (message) => hooks.onStep?.("kernel", message),
  });
  const base = ensureInitramfs({
    directory: join(settings.stateDir, "initramfs"),
    kernel,
    busybox: settings.busyboxPath,
  });
  const { directory, journal } = machine;
  const image = join(directory, MACHINE_FILES.kernel);
  rmSync(image, { force: true });
  try {
    linkSync(kernel.image, image);
  } catch {
    copyFileSync(kernel.image, image);
  }
  const initrd = join(directory, MACHINE_FILES.initrd);
  rmSync(initrd, { force: true });
  const config = readFileSync(join(engine.journals.directory(journal.id), CONFIG_FILE));
  writeFileSync(initrd, Buffer.concat([readFileSync(base), config]), { mode: 0o600 });
  if (journal.uid !== null) chownSync(initrd, journal.uid, journal.uid);
}

class BindRace extends Error {
  readonly port: number;
  constructor(port: number) {
    super(`port ${port}`);
    this.port = port;
  }
}

async function launch(engine: Engine, machine: Machine, hooks: StartHooks): Promise<void> {
  const { settings } = engine;
  const { directory, journal } = machine;
  const { accelerator } = await engine.accelerators.choose();
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
    egress: await grantEgress(engine, journal),
  });
  hooks.onStep?.(
    "boot",
    accelerator === "kvm" ? "Starting the machine." : "Starting the machine (emulated: no KVM here).",
  );
  const groups = engine.cgroups.make(journal.id, journal);
  const args = qemuArguments({
    name: `formation-${journal.id}`,
    accelerator,
    vcpus: journal.vcpus,
    memory_mb: journal.memory_mb,
    bindAddress: settings.bindAddress,
    forwards,
    egress: machine.journal.egress.mode === "internet",
  });
  const log = openSync(join(directory, MACHINE_FILES.log), "a");
  let pid: number;
  try {
    const [program = QEMU, ...rest] = [...confinement(settings.profile, journal.uid, groups), QEMU, ...args];
    pid = await spawnDetached(program, rest, {
      cwd: directory,
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8" },
      stdio: ["ignore", log, log],
    });
  } finally {
    closeSync(log);
  }
  const qemu = identify(pid);
  machine.note({ phase: "running", qemu });
  if (qemu === null) {
    machine.settle();
    throw failure(machine, accelerator);
  }
  await attached(machine, hooks.signal, accelerator);
}

async function attached(machine: Machine, signal: AbortSignal, accelerator: string): Promise<void> {
  const { qemu } = machine.journal;
  try {
    await waitFor(
      async () => {
        if (qemu === null || !isAlive(qemu)) throw failure(machine, accelerator);
        return machine.attach().then(
          () => true,
          () => false,
        );
      },
      { timeoutMs: SETUP_MS, everyMs: 10, signal, what: "QEMU to answer" },
    );
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
  machine.wake();
}

/** What stands before QEMU on the line: into the cgroups, then out of every privilege. */
function confinement(profile: "root" | "user", uid: number | null, groups: readonly string[]): string[] {
  const enter =
    groups.length === 0
      ? []
      : [
          "/bin/sh",
          "-c",
          'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 97; shift; n=$((n-1)); done; exec "$@"',
        ].concat("sh", String(groups.length), groups);
  const drop =
    profile === "root" && uid !== null
      ? [
          "setpriv",
          "--reuid",
          `${uid}`,
          "--regid",
          `${uid}`,
          "--clear-groups",
          "--no-new-privs",
          "--inh-caps=-all",
          "--bounding-set=-all",
          "--",
        ]
      : ["setpriv", "--no-new-privs", "--"];
  return [...enter, ...drop];
}

async function grantEgress(engine: Engine, journal: Journal): Promise<Journal["egress"]> {
  if (!journal.egress_wanted) return { mode: "none", reason: "not asked for" };
  if (engine.settings.egress === "none") return { mode: "none", reason: "turned off on this node" };
  if (journal.uid === null) {
    return {
      mode: "none",
      reason: "without root the node cannot keep the guest from the host's own network",
    };
  }
  return engine.firewall.allow(journal.uid);
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
function failure(machine: Machine, accelerator: string): Error {
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
    `QEMU (${accelerator}) did not start: ${last || "it said nothing"}`,
    {
      remedy: "Run `formation-mcp doctor` on the node.",
      step: "boot",
    },
  );
}

function plain(error: unknown, engine: Engine): unknown {
  return error instanceof BindRace ? portTaken(error.port, engine.settings.bindAddress) : error;
}
