// The names of the files in a machine's run directory, which its process is started in.

/** The names of the files in a machine's directory. `console`, `out`, `err` and `status` are appended to by QEMU. */
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
