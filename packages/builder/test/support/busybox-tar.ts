// A small root file system as a tar, for images that tests push to a registry.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Writes a tar of busybox and some files. The named directories belong to uid 1000. */
export function busyboxTar(
  directory: string,
  files: Record<string, string> = {},
  owned: readonly string[] = [],
): string {
  const root = mkdtempSync(join(directory, "root-"));
  for (const name of ["bin", "etc", "tmp", "proc", "sys", "dev", ...owned])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  for (const applet of ["sh", "cat", "id", "ls", "echo", "sleep"])
    symlinkSync("busybox", join(root, "bin", applet));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const tar = `${root}.tar`;
  const owner = ["--owner=0", "--group=0", "--numeric-owner"];
  execFileSync("tar", ["-C", root, ...owner, ...owned.map((name) => `--exclude=./${name}`), "-cf", tar, "."]);
  for (const name of owned) {
    execFileSync("tar", [
      "-C",
      root,
      "--owner=1000",
      "--group=1000",
      "--numeric-owner",
      "-rf",
      tar,
      `./${name}`,
    ]);
  }
  rmSync(root, { recursive: true });
  return tar;
}

/** Writes a tar without any program. */
export function emptyTar(directory: string): string {
  const root = mkdtempSync(join(directory, "root-"));
  writeFileSync(join(root, "file"), "");
  const tar = `${root}.tar`;
  execFileSync("tar", ["-C", root, "--owner=0", "--group=0", "-cf", tar, "file"]);
  rmSync(root, { recursive: true });
  return tar;
}
