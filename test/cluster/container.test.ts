// @module-tag root
// @module-tag postgres
// @module-tag nats
// @module-tag bundles

// deploy/container/Containerfile, built by buildah on a base of Debian packages with the Node of this
// repository. The image serves as an unprivileged user.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, cpSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { debianBase } from "@formation-mcp/builder/testing/debian";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOT } from "../support/server.ts";

const dir = mkdtempSync(join(tmpdir(), "formation-container-"));
const store = ["--root", join(dir, "root"), "--runroot", join(dir, "run"), "--storage-driver", "overlay"];
const buildah = async (...args: string[]) =>
  (await promisify(execFile)("buildah", [...store, ...args], { maxBuffer: 16 * 1024 * 1024 })).stdout.trim();

beforeAll(async () => {
  const base = await buildah("from", "scratch");
  await buildah("add", "-q", base, await debianBase(), "/");
  await buildah("copy", "-q", "--chmod", "755", base, process.execPath, "/usr/local/bin/node");
  await buildah("commit", "-q", "--rm", base, "localhost/node-base");
  const context = join(dir, "context");
  cpSync(join(ROOT, "apps/http/dist"), context, {
    recursive: true,
    filter: (path) => !path.endsWith(".json"),
  });
  copyFileSync(join(ROOT, "deploy/container/Containerfile"), join(dir, "Containerfile"));
  const from = ["--build-arg", "BASE=localhost/node-base", "--pull=never", "--isolation", "chroot"];
  await buildah(
    "build",
    "-q",
    ...from,
    "-f",
    join(dir, "Containerfile"),
    "-t",
    "localhost/formation-mcp-http",
    context,
  );
}, 400_000);
afterAll(async () => {
  await buildah("rm", "--all").catch(() => {});
  await promisify(execFile)("umount", ["-l", join(dir, "root/overlay")]).catch(() => {});
  rmSync(dir, { recursive: true, force: true });
});

test("the image serves as an account without rights, and leaves when it is told to", async () => {
  const { OCIv1 } = JSON.parse(await buildah("inspect", "--type", "image", "localhost/formation-mcp-http"));
  const { Entrypoint, User, StopSignal } = OCIv1.config;
  expect(User).toBe("64000:64000");
  expect(StopSignal).toBe("SIGTERM");
  const container = await buildah("from", "--pull=never", "localhost/formation-mcp-http");
  const port = await freePort();
  const settings = {
    FORMATION_HTTP_PORT: String(port),
    FORMATION_PUBLIC_URL: `http://127.0.0.1:${port}`,
    FORMATION_TRUSTED_PROXIES: "172.30.0.0/24",
  };
  const env = Object.entries(settings).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
  const args = [...store, "run", "--isolation", "chroot", ...env, container, "--", ...Entrypoint];
  const child = spawn("buildah", args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const gone = once(child, "exit");
  try {
    const pid = await waitFor(
      () => {
        if (child.exitCode !== null) throw new Error(output);
        return /"message":"listening".*"pid":(\d+)/.exec(output)?.[1];
      },
      { timeoutMs: 60_000, what: "the server in the container" },
    );
    const ready = await fetch(`http://127.0.0.1:${port}/health/ready`);
    expect(ready.status, await ready.text()).toBe(200);
    const { stdout } = await promisify(execFile)("ps", ["-o", "uid=", "-p", pid]);
    expect(stdout.trim()).toBe("64000");
    process.kill(Number(pid), "SIGTERM");
    await gone;
    expect(output).toContain('"message":"left"');
  } finally {
    child.kill("SIGTERM");
    await gone;
  }
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
