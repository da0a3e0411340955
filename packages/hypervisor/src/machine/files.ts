// Where the files of a machine are: its two directories, and the names of the files in them.

/** The directories of one machine. */
export interface MachinePaths {
  /** Only the worker reads and writes here: the journal, the log offsets, the leash. */
  directory: string;
  /** Below it: the working directory of the machine's process, with all that the process may see. */
  runDirectory: string;
}

/** Names in the run directory. QEMU appends to `console`, `out`, `err` and `status`. */
export const MACHINE_FILES = {
  kernel: "vmlinuz",
  initrd: "initrd",
  base: "base.img",
  disk: "disk.qcow2",
  console: "console",
  out: "out",
  err: "err",
  status: "status",
  log: "qemu.log",
  qmp: "ipc/qmp",
} as const;

/** The directory of the control socket, in the run directory. */
export const IPC_DIRECTORY = "ipc";

/** When the machine's leash ends. Relative to the run directory. */
export const LEASH_FILE = "../leash";

/** The identity of the guard that enforces the leash. Relative to the run directory. */
export const GUARD_FILE = "../guard";
