// Making a machine: its directory, its copy-on-write disk over the shared base, its settings for the guest.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { MachineSpec } from "../port.ts";
import { freeAccount, handOver } from "./accounts.ts";
import { type Engine, placeOf } from "./deps.ts";
import { MACHINE_FILES } from "./files.ts";
import { checkMachineId, type Journal } from "./journal.ts";
import { Machine } from "./machine.ts";

export async function createMachine(engine: Engine, spec: MachineSpec): Promise<void> {
  checkSpec(spec);
  const present = engine.machines.get(spec.id);
  if (present && present.journal.phase !== "creating") return;
  engine.journals.discard(spec.id);
  const journal: Journal = {
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
    uid: freeAccount(engine),
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
  const machine = new Machine(engine, journal);
  engine.machines.set(spec.id, machine);
  try {
    engine.journals.begin(journal);
    await makeFiles(engine, spec, journal);
    machine.note({ phase: "created" });
  } catch (error) {
    engine.machines.delete(spec.id);
    engine.journals.discard(spec.id);
    throw diskError(error);
  }
}

async function makeFiles(engine: Engine, spec: MachineSpec, journal: Journal): Promise<void> {
  const place = placeOf(engine, spec.id);
  const directory = place.runDirectory;
  mkdirSync(directory, { mode: 0o755 });
  mkdirSync(join(directory, "ipc"), { mode: 0o700 });
  for (const file of ["console", "out", "err", "status", "log"] as const) {
    writeFileSync(join(directory, MACHINE_FILES[file]), "", { mode: 0o600 });
  }
  await engine.runner.make(spec, place);
  if (journal.uid !== null) handOver(directory, journal.uid);
}

/** Turns "no space left" into what the owner can act upon. */
export function diskError(error: unknown): FormationError {
  if (!isFull(error)) return FormationError.from(error, "The machine's files cannot be made.");
  return new FormationError("unavailable", "The node's disk is full.", {
    remedy: "Delete instances or builds that are no longer needed, or give the node more disk.",
    step: "boot",
    cause: error,
  });
}

function isFull(error: unknown): boolean {
  for (let one = error; one instanceof Error; one = one.cause) {
    const { code } = one as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EDQUOT" || /No space left|Disk quota/i.test(one.message)) return true;
  }
  return false;
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
