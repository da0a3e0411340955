// Inspects what the real driver made: files on an ext4 disk, and what builds left in the system.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** The text of a file on an ext4 image, or null if it is missing. */
export async function readDisk(disk: string, path: string): Promise<string | null> {
  // debugfs reads one command per line and quotes like a shell with doubled quotes. A name that it cannot
  // take is found by listing.
  const inode = await inodeOf(disk, path);
  if (inode === null) return null;
  const { stdout } = await execute("debugfs", ["-R", `cat <${inode}>`, disk], {
    maxBuffer: 64 * 1024 * 1024,
  });
  return stdout;
}

async function inodeOf(disk: string, path: string): Promise<number | null> {
  let inode = 2;
  for (const part of path.split("/").filter(Boolean)) {
    const { stdout } = await execute("debugfs", ["-R", `ls -p <${inode}>`, disk], { encoding: "latin1" });
    // /inode/mode/uid/gid/name/size/ ; a name may hold a newline but no slash.
    const found = [...stdout.matchAll(/\/(\d+)\/\d+\/\d+\/\d+\/([^/]*)\/\d*\/\n/g)].find(
      (entry) => Buffer.from(entry[2] ?? "", "latin1").toString("utf8") === part,
    );
    if (!found) return null;
    inode = Number(found[1]);
  }
  return inode;
}

/** Everything of builds that should have been removed. */
export async function leftoversOf(stateDir: string): Promise<string[]> {
  const mark = createHash("sha256").update(stateDir).digest("hex").slice(0, 10);
  const list = (path: string) => (existsSync(path) ? readdirSync(path).map((name) => join(path, name)) : []);
  const mounts = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((path) => path.startsWith(`${stateDir}/`) && !path.endsWith("/c/overlay"));
  const groups = list("/sys/fs/cgroup").flatMap((hierarchy) => list(join(hierarchy, "formation", mark)));
  const processes = readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    try {
      const zombie = readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
      return !zombie && readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(stateDir);
    } catch {
      return false;
    }
  });
  const temporary = list(join(stateDir, "disks")).filter((path) => path.endsWith(".tmp"));
  const containers = join(stateDir, "c/overlay-containers/containers.json");
  const working = existsSync(containers)
    ? (JSON.parse(readFileSync(containers, "utf8") || "[]") as unknown[])
    : [];
  return [
    ...mounts,
    ...groups,
    ...processes.map((pid) => `process ${pid}`),
    ...list(join(stateDir, "b")),
    ...temporary,
    ...(working ?? []).map((one) => `container ${JSON.stringify(one)}`),
  ];
}

/** Kills the processes that builds below a state directory started, but not those in their containers. */
export function killMarked(stateDir: string): void {
  for (const pid of readdirSync("/proc").filter(
    (name) => /^\d+$/.test(name) && Number(name) !== process.pid,
  )) {
    try {
      if (readFileSync(`/proc/${pid}/environ`, "latin1").includes(`HOME=${stateDir}/`))
        process.kill(Number(pid), "SIGKILL");
    } catch {
      // The process has already ended.
    }
  }
}

/** The pids of processes with a text in their command line, whose words are separated by NUL. */
export function processesWith(text: string): number[] {
  return readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}
