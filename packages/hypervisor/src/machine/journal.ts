// What is written down about a machine before anything is done to it, so that whoever reads it after a crash knows what may
// exist. It lies where only the worker may write. It holds no environment and no arguments: those are in the guest's archive.

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { type ProcessIdentity, readIfThere, writeFileAtomic } from "@formation-mcp/os";
import type { GuestReport } from "../guest/status-report.ts";
import type { MachineStatus } from "../port.ts";

/** `creating` and `removing` are undone or finished by recovery; `starting` means that a process may exist. */
type Phase = "creating" | "created" | "starting" | "running" | "stopped" | "removing";

export interface Journal {
  v: 1;
  id: string;
  phase: Phase;
  hostname: string;
  vcpus: number;
  memory_mb: number;
  /** For messages: who runs what, where. */
  process: { argv0: string; user: string; workdir: string };
  ports: { guest_port: number; port: number | null }[];
  egress_wanted: boolean;
  egress: MachineStatus["egress"];
  /** Limits that could not be put on its process at the last start. */
  unenforced: string[];
  /** The account that its QEMU runs as; null where it is our own. */
  uid: number | null;
  /** The ports given at the last start; asked for again at the next. */
  forwards: { guest_port: number; port: number }[];
  accelerator: "kvm" | "tcg" | null;
  qemu: ProcessIdentity | null;
  /** The host's boot in which `qemu` means something. */
  boot_id: string | null;
  paused: boolean;
  /** Somebody asked it to stop since the last start. */
  stopping: boolean;
  started_at: number | null;
  /** What the guest had reported up to a byte of its status file that was dropped since; null before that. */
  reported: { at: number; report: GuestReport } | null;
  exit: MachineStatus["exit"];
}

export interface Journals {
  /** The directory of one machine; it need not exist. */
  directory(id: string): string;
  read(id: string): Journal | null;
  write(journal: Journal): void;
  /** Makes the directory, and the journal as the first thing in it. */
  begin(journal: Journal): void;
  /** The names of all machine directories, readable or not. */
  ids(): string[];
  /** Takes the machine out of sight at once, then removes its files. */
  discard(id: string): void;
}

const FILE = "machine.json";
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** @throws FormationError `invalid` for anything that could leave the directory or confuse a command line. */
export function checkMachineId(id: string): void {
  if (ID.test(id) && !id.includes("..")) return;
  throw new FormationError("invalid", "A machine id is up to 128 letters, digits, '.', '_' and '-'.", {
    field: "id",
  });
}

export function openJournals(root: string): Journals {
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const directory = (id: string) => join(root, id);
  const write = (journal: Journal) =>
    writeFileAtomic(join(directory(journal.id), FILE), `${JSON.stringify(journal, null, 1)}\n`);
  return {
    directory,
    write,
    read(id) {
      const text = readIfThere(join(directory(id), FILE));
      if (text === null) return null;
      const journal = JSON.parse(text) as Journal;
      if (journal.v !== 1 || journal.id !== id) throw new Error("not this machine's journal");
      return journal;
    },
    begin(journal) {
      mkdirSync(directory(journal.id), { mode: 0o700 });
      write(journal);
    },
    ids: () => readdirSync(root).filter((name) => ID.test(name)),
    discard(id) {
      const from = directory(id);
      if (!existsSync(from)) return;
      const trash = join(root, `~${id}`);
      rmSync(trash, { recursive: true, force: true });
      renameSync(from, trash);
      rmSync(trash, { recursive: true, force: true });
    },
  };
}
