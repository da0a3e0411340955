// Root file systems for tests: a static busybox with a link for each of its programs, and given files.

import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
const GROUP = "root:x:0:\nalice:x:1000:\nextra:x:2000:alice\n";

/** Makes the tree in a fresh directory; the caller removes it. */
export function makeRootfs(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), "rootfs-"));
  for (const name of ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "run", "srv"])
    mkdirSync(join(root, name));
  chmodSync(root, 0o755);
  chmodSync(join(root, "tmp"), 0o1777);
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  for (const applet of execFileSync("/bin/busybox", ["--list"], { encoding: "utf8" }).split("\n")) {
    if (applet !== "" && applet !== "busybox") symlinkSync("busybox", join(root, "bin", applet));
  }
  for (const [path, text] of Object.entries({ "etc/passwd": PASSWD, "etc/group": GROUP, ...files })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

/** A raw ext4 disk of 1 GiB, sparse, with those files. */
export function makeDisk(directory: string, files: Record<string, string>): string {
  const root = makeRootfs(files);
  const disk = join(mkdtempSync(join(directory, "disk-")), "disk.img");
  writeFileSync(disk, "");
  truncateSync(disk, 1024 ** 3);
  const options = "lazy_itable_init=1,lazy_journal_init=1";
  execFileSync("mke2fs", ["-q", "-F", "-t", "ext4", "-m", "0", "-E", options, "-d", root, disk]);
  chmodSync(disk, 0o444);
  rmSync(root, { recursive: true, force: true });
  return disk;
}
