// A machine's journal: a JSON file that is written before each action, so that recovery after a crash knows
// what may exist. Only the worker can write it. It holds no environment and no arguments: the guest's archive
// does.

import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { type ProcessIdentity, readFileIfPresent, writeFileAtomic } from "@formation-mcp/os";
import type { GuestReport } from "../guest/status-report.ts";
import type { MachineStatus } from "../port.ts";
import type { MachinePaths } from "./files.ts";

/** Recovery discards machines in `creating` and `removing`. In `starting` a process may exist. */
type Phase = "creating" | "created" | "starting" | "running" | "stopped" | "removing";

export interface Journal {
  v: 1;
  id: string;
  phase: Phase;
  hostname: string;
  vcpus: number;
  memory_mb: number;
  /** For error messages. */
  process: { argv0: string; user: string; workdir: string };
  ports: { guest_port: number; port: number | null }[];
  egress_wanted: boolean;
  egress: MachineStatus["egress"];
  /** Limits that could not be put on its process at the last start, in words. */
  unenforced: string[];
  /** The account number (uid) that its process runs as; null for the worker's own account. */
  uid: number | null;
  /** The host ports of the last start; the next start asks for the same ones. */
  forwards: { guest_port: number; port: number }[];
  accelerator: "kvm" | "tcg" | null;
  /** The machine's process. */
  qemu: ProcessIdentity | null;
  /** The boot of the host in which `qemu` was started. */
  boot_id: string | null;
  paused: boolean;
  /** Whether a stop was asked for since the last start. */
  stopping: boolean;
  /** When the guest reported that its entrypoint runs, in milliseconds since the epoch. */
  started_at: number | null;
  /** The guest's report up to byte `at` of its status file: what lies before may be gone from the disk. */
  reported: { at: number; report: GuestReport } | null;
  exit: MachineStatus["exit"];
}

export interface Journals {
  /** The directory that holds a directory for each machine. */
  root: string;
  /** The directories of one machine; they need not exist. */
  paths(id: string): MachinePaths;
  /** Null without a journal. @throws Error if it is not JSON, or another machine's. */
  read(id: string): Journal | null;
  write(journal: Journal): void;
  /** Makes the directory and writes the journal as the first file in it. */
  begin(journal: Journal): void;
  /** The ids of all machine directories, whether their journals can be read or not. */
  ids(): string[];
  /** Renames the directory away, so that the machine is gone at once, then removes its files. */
  discard(id: string): void;
  /** Finishes what `discard` left undone when the process died. */
  sweepDiscarded(): void;
}

/** Begins the name of a discarded machine's directory. */
const DISCARDED = "~";
const JOURNAL_FILE = "machine.json";
const MACHINE_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/**
 * @throws FormationError `invalid` for an id that could escape the directory or be read as a command line
 * option.
 */
export function checkMachineId(id: string): void {
  if (MACHINE_ID.test(id) && !id.includes("..")) return;
  throw new FormationError("invalid", "A machine id is up to 128 letters, digits, '.', '_' and '-'.", {
    field: "id",
  });
}

/** @param root is made, with mode 0700. */
export function createJournals(root: string): Journals {
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const directory = (id: string) => join(root, id);
  const write = (journal: Journal) =>
    writeFileAtomic(join(directory(journal.id), JOURNAL_FILE), `${JSON.stringify(journal, null, 1)}\n`);
  return {
    root,
    paths: (id) => ({ directory: directory(id), runDirectory: join(directory(id), "run") }),
    write,
    read(id) {
      const text = readFileIfPresent(join(directory(id), JOURNAL_FILE));
      if (text === null) return null;
      const journal = JSON.parse(text) as Journal;
      if (journal.v !== 1 || journal.id !== id) throw new Error("not this machine's journal");
      return journal;
    },
    begin(journal) {
      mkdirSync(directory(journal.id), { mode: 0o700 });
      write(journal);
    },
    ids: () => readdirSync(root).filter((name) => MACHINE_ID.test(name)),
    discard(id) {
      const from = directory(id);
      if (!existsSync(from)) return;
      const trash = join(root, `${DISCARDED}${id}`);
      rmSync(trash, { recursive: true, force: true });
      renameSync(from, trash);
      rmSync(trash, { recursive: true, force: true });
    },
    sweepDiscarded() {
      for (const name of readdirSync(root)) {
        if (name.startsWith(DISCARDED)) rmSync(join(root, name), { recursive: true, force: true });
      }
    },
  };
}
