// Bare QEMU: the exact command of one of our machines, read from its process, and started by hand in a
// separate directory.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { runChecked } from "@formation-mcp/os";
import type { Scope } from "./scope.ts";

/** What starting the same machine without our hypervisor needs. */
export interface Template {
  program: string;
  args: string[];
  /** Holds the kernel, the initramfs and the base disk. */
  directory: string;
}

/** Reads the command and the files of a running machine. */
export function templateOf(pid: number, scope: Scope): Template {
  const [program = "", ...args] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  const from = readlinkSync(`/proc/${pid}/cwd`);
  const directory = scope.directory();
  for (const file of ["vmlinuz", "initrd", "base.img"]) {
    try {
      linkSync(join(from, file), join(directory, file));
    } catch {
      copyFileSync(join(from, file), join(directory, file));
    }
  }
  return { program, args, directory };
}

export interface Bare {
  pid: number;
  url: string;
  /** Ends it and removes its files. */
  end(): Promise<void>;
}

/** Prepares a directory and a port for the next start. This is not measured. */
export async function readyBare(template: Template, scope: Scope) {
  const directory = mkdtempSync(join(template.directory, "m-"));
  mkdirSync(join(directory, "ipc"));
  for (const file of ["vmlinuz", "initrd", "base.img"]) {
    linkSync(join(template.directory, file), join(directory, file));
  }
  const port = await freePort();
  const args = template.args.map((arg) => arg.replace(/:\d+-:/, `:${port}-:`));
  return {
    /** Makes the overlay and starts QEMU. */
    async start(): Promise<Bare> {
      const overlay = ["create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", "disk.qcow2"];
      await runChecked("qemu-img", overlay, { cwd: directory, timeoutMs: 60_000 });
      const child = spawn(template.program, args, { cwd: directory, stdio: "ignore" });
      const end = () => ended(child).then(() => rmSync(directory, { recursive: true, force: true }));
      scope.defer(end);
      await once(child, "spawn");
      return { pid: child.pid as number, url: `http://127.0.0.1:${port}/`, end };
    },
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}
