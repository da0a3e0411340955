// Making a machine: its directory with the journal, its empty log files, and what the driver adds, such as
// the disk.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { MachineSpec } from "../port.ts";
import { freeAccount, handOver } from "./accounts.ts";
import type { HypervisorDeps } from "./deps.ts";
import { diskError } from "./disk-errors.ts";
import { IPC_DIRECTORY, MACHINE_FILES, type MachinePaths } from "./files.ts";
import { checkMachineId, type Journal } from "./journal.ts";
import { Machine } from "./machine.ts";

/** See `Hypervisor.create`. @throws FormationError `invalid` for a spec that no machine can be made of. */
export async function createMachine(deps: HypervisorDeps, spec: MachineSpec): Promise<void> {
  checkSpec(spec);
  const present = deps.machines.get(spec.id);
  if (present && present.journal.phase !== "creating") return;
  deps.journals.discard(spec.id);
  const journal = newJournal(spec, freeAccount(deps));
  const machine = new Machine(deps, journal);
  deps.machines.set(spec.id, machine);
  try {
    deps.journals.begin(journal);
    await createFiles(deps, spec, journal.uid);
    machine.note({ phase: "created" });
  } catch (error) {
    deps.machines.delete(spec.id);
    deps.journals.discard(spec.id);
    throw diskError(error);
  }
}

function newJournal(spec: MachineSpec, uid: number | null): Journal {
  return {
    v: 1,
    id: spec.id,
    phase: "creating",
    hostname: spec.hostname,
    vcpus: spec.vcpus,
    memory_mb: spec.memory_mb,
    process: { argv0: spec.process.argv[0] ?? "", user: spec.process.user, workdir: spec.process.workdir },
    ports: spec.ports,
    egress_wanted: spec.egress,
    egress: { mode: "none", reason: "not started yet" },
    unenforced: [],
    uid,
    forwards: [],
    accelerator: null,
    qemu: null,
    boot_id: null,
    paused: false,
    stopping: false,
    started_at: null,
    reported: null,
    exit: null,
  };
}

async function createFiles(deps: HypervisorDeps, spec: MachineSpec, uid: number | null): Promise<void> {
  const paths = deps.journals.paths(spec.id);
  createRunDirectory(paths);
  await deps.driver.provision(spec, paths);
  if (uid !== null) handOver(paths.runDirectory, uid);
}

function createRunDirectory({ runDirectory }: MachinePaths): void {
  mkdirSync(runDirectory, { mode: 0o755 });
  mkdirSync(join(runDirectory, IPC_DIRECTORY), { mode: 0o700 });
  for (const file of ["console", "out", "err", "status", "log"] as const) {
    writeFileSync(join(runDirectory, MACHINE_FILES[file]), "", { mode: 0o600 });
  }
}

function checkSpec(spec: MachineSpec): void {
  checkMachineId(spec.id);
  const bad = (field: string, message: string) => new FormationError("invalid", message, { field });
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i.test(spec.hostname)) {
    throw bad("hostname", "The host name is not a legal label: letters, digits and '-', at most 63.");
  }
  if (spec.process.argv.length === 0 || spec.process.argv[0] === "") {
    throw bad("entrypoint", "There is nothing to run: the entrypoint is empty.");
  }
  const words = [
    ...spec.process.argv,
    ...Object.entries(spec.process.env).flat(),
    spec.process.user,
    spec.process.workdir,
  ];
  if (words.some((word) => word.includes("\0")))
    throw bad("entrypoint", "A NUL byte can be in no argument or variable.");
  if (Object.keys(spec.process.env).some((name) => name === "" || name.includes("="))) {
    throw bad("env", "A variable's name is not empty and has no '='.");
  }
  if (new Set(spec.ports.map(({ guest_port }) => guest_port)).size !== spec.ports.length) {
    throw bad("expose", "A guest port is named twice.");
  }
}
