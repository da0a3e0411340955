// A Debian base image for tests, made by mmdebstrap from the mirror that this machine's apt uses, once a day
// for all tests.

import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { waitFor } from "@formation-mcp/os";
import { tryLock } from "@formation-mcp/os/sqlite";
import { type Registry, startRegistry } from "./registry.ts";

const execute = promisify(execFile);
const CACHE = join(tmpdir(), "formation-test-cache");

/** The suite and mirror that apt uses on this machine for its main component. */
export async function debianMirror(): Promise<{ suite: string; mirror: string; proxy: string }> {
  const suite = /^VERSION_CODENAME=(\S+)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "";
  const { stdout } = await execute("apt-get", [
    "indextargets",
    "--format",
    "$(RELEASE) $(COMPONENT) $(REPO_URI)",
    "Created-By: Packages",
  ]);
  const found = stdout.split("\n").find((line) => line.startsWith(`${suite} main `));
  if (!found) throw new Error(`apt has no source for ${suite} main`);
  const proxy =
    /"([^"]*)"/.exec((await execute("apt-config", ["dump", "Acquire::http::Proxy"])).stdout)?.[1] ?? "";
  return { suite, mirror: found.split(" ")[2] ?? "", proxy };
}

/**
 * A registry that serves the base as `debian:12`. Its data is kept for a day, so that the base is pushed
 * once.
 */
export async function debianRegistry(): Promise<Registry> {
  const tar = await debianBase();
  const data = `${tar}.registry`;
  if (!existsSync(join(data, "pushed"))) {
    using _lock = await waitFor(() => tryLock(`${tar}.lock`), {
      timeoutMs: 300_000,
      everyMs: 500,
      what: "another test to push the Debian base",
    });
    if (!existsSync(join(data, "pushed"))) {
      const registry = await startRegistry({ data });
      try {
        await registry.push("debian:12", tar, ["--cmd", '["/bin/bash"]']);
      } finally {
        await registry.stop();
      }
      writeFileSync(join(data, "pushed"), "");
    }
  }
  return await startRegistry({ data });
}

/**
 * The path of a root file system with Python as a tar. If there is none of today, it is made, in about 40 s.
 */
export async function debianBase(): Promise<string> {
  mkdirSync(CACHE, { recursive: true });
  const { suite, mirror, proxy } = await debianMirror();
  const path = join(CACHE, `debian-${suite}-python-${new Date().toISOString().slice(0, 10)}.tar`);
  if (existsSync(path)) return path;
  using _lock = await waitFor(() => tryLock(`${path}.lock`), {
    timeoutMs: 300_000,
    everyMs: 500,
    what: "another test to make the Debian base",
  });
  if (existsSync(path)) return path;
  const temporary = `${path}.${process.pid}.tmp`;
  const exclude = ["man", "doc", "locale"].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`);
  try {
    await execute(
      "mmdebstrap",
      [
        ...[
          "--variant=minbase",
          "--include=python3",
          "--format=tar",
          '--aptopt=Acquire::Languages "none"',
          ...exclude,
        ],
        ...(proxy ? [`--aptopt=Acquire::http::Proxy "${proxy}"`] : []),
        ...[suite, temporary, mirror],
      ],
      { timeout: 290_000, maxBuffer: 64 * 1024 * 1024 },
    );
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
  return path;
}
