// Bases that are not busybox, where no public registry can be reached: Debian made from its packages, offered by a registry
// on loopback.

import { execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { waitFor } from "@formation-mcp/os";

const exec = promisify(execFile);

export interface Registry {
  /** `127.0.0.1:port`. */
  address: string;
  /** Pushes a root file system as an image, with what `buildah config` is told besides. */
  push(name: string, tar: string, config: string[]): Promise<void>;
  close(): Promise<void>;
}

/** Debian's docker-registry on loopback, with a store of its own. */
export async function startRegistry(): Promise<Registry> {
  const dir = mkdtempSync(join(tmpdir(), "formation-registry-"));
  const address = `127.0.0.1:${await freePort()}`;
  const file = join(dir, "config.yml");
  writeFileSync(
    file,
    `version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: ${dir}/data}}\nhttp: {addr: "${address}"}\n`,
  );
  const server = spawn("docker-registry", ["serve", file], { stdio: "ignore" });
  await waitFor(
    () =>
      fetch(`http://${address}/v2/`).then(
        (answer) => answer.ok,
        () => false,
      ),
    {
      timeoutMs: 20_000,
      what: "the registry",
    },
  );
  const store = ["--root", join(dir, "s"), "--runroot", join(dir, "r"), "--storage-driver", "vfs"];
  const buildah = async (...args: string[]) => (await exec("buildah", [...store, ...args])).stdout.trim();
  return {
    address,
    async push(name, tar, config) {
      const container = await buildah("from", "scratch");
      await buildah("add", "-q", container, tar, "/");
      await buildah("config", "--cmd", '["/bin/bash"]', ...config, container);
      await buildah("commit", "-q", "--rm", container, `localhost/${name}`);
      await buildah("push", "-q", "--tls-verify=false", `localhost/${name}`, `docker://${address}/${name}`);
    },
    async close() {
      server.kill("SIGTERM");
      await new Promise((resolve) => server.once("exit", resolve));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** A small Debian with Python, as a tar; made once a day and kept in the system's temporary directory. */
export async function debianBase(): Promise<string> {
  const cache = join(tmpdir(), "formation-test-cache");
  const tar = join(cache, `debian-bookworm-python-${new Date().toISOString().slice(0, 10)}.tar`);
  if (existsSync(tar)) return tar;
  mkdirSync(cache, { recursive: true });
  const made = `${tar}.${process.pid}.tar`;
  const lean = ["man", "doc", "locale"].map((each) => `--dpkgopt=path-exclude=/usr/share/${each}/*`);
  await exec(
    "mmdebstrap",
    [
      "--variant=minbase",
      "--include=python3",
      '--aptopt=Acquire::Languages "none"',
      ...lean,
      "bookworm",
      made,
    ],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  renameSync(made, tar);
  return tar;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
