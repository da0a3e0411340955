// @module-tag buildah
// @module-tag qemu
// @module-tag bundles

// The demo of the README as printed: as root, as a new unprivileged user, and the output of `--keep` for a
// desktop host.

import { execFile } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { build } from "tsup";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { application } from "../../tsup.base.ts";
import { expectNothingLeft, leftovers } from "../support/leftovers.ts";
import { BUNDLE, HELLO, ROOT, temporaryState } from "../support/server.ts";
import { lent, sharedEnvironment } from "../support/shared.ts";

const exec = promisify(execFile);
const USER = "formation-fresh";

/** The demo bundled into one file, with copies of the files it uses, readable by every user. */
let stage: string;
beforeAll(async () => {
  stage = mkdtempSync(join(tmpdir(), "formation-stage-"));
  chmodSync(stage, 0o755);
  cpSync(HELLO, join(stage, "examples/hello"), { recursive: true });
  mkdirSync(join(stage, "apps/stdio/dist"), { recursive: true });
  copyFileSync(BUNDLE, join(stage, "apps/stdio/dist/formation-mcp.mjs"));
  copyFileSync(process.execPath, join(stage, "node"));
  const entry = { demo: join(ROOT, "examples/demo.ts") };
  await build({ ...application(entry), outDir: join(stage, "examples"), clean: false, config: false });
});
afterAll(() => rmSync(stage, { recursive: true, force: true }));

const isRoot = process.getuid?.() === 0;

describe("The demo", () => {
  test("shows the page of a VM and that nothing is left, to a fresh unprivileged user with an empty home", async () => {
    const home = mkdtempSync(join(tmpdir(), "formation-home-"));
    if (isRoot) await exec("useradd", ["--no-create-home", "--home-dir", home, USER]);
    try {
      if (isRoot) await exec("chown", [USER, home]);
      const settings = lent(await sharedEnvironment(home), home, statSync(home).uid);
      // If this process is root, it runs as a new user; otherwise only the home directory is new.
      const become = isRoot ? ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups"] : [];
      const clean = [
        "env",
        "-i",
        `HOME=${home}`,
        `USER=${isRoot ? USER : userInfo().username}`,
        "PATH=/usr/bin:/bin",
        ...Object.entries(settings).map(([name, value]) => `${name}=${value}`),
      ];
      const [file = "", ...args] = [
        ...become,
        ...clean,
        join(stage, "node"),
        join(stage, "examples/demo.mjs"),
      ];
      const { stdout } = await exec(file, args, { timeout: 200_000 });
      expect(stdout).toContain("<h1>Hello from a VM</h1>");
      expect(stdout).toContain("nothing is left");
    } finally {
      if (isRoot) await exec("userdel", [USER]);
      rmSync(home, { recursive: true, force: true });
    }
  });

  test("--keep prints the command for a desktop host, which finds the VM with an empty PATH and deletes it whole", async () => {
    const state = temporaryState();
    const before = leftovers(state.dir);
    const shared = await sharedEnvironment(state.dir);
    try {
      const { stdout } = await exec(
        process.execPath,
        [join(ROOT, "examples/demo.ts"), "--keep", "--state-dir", state.dir],
        {
          timeout: 200_000,
          env: { ...process.env, ...shared },
        },
      );
      expect(stdout).toContain("<h1>Hello from a VM</h1>");
      const printed = /^\{\n {2}"mcpServers"[\s\S]*?\n\}$/m.exec(stdout)?.[0] ?? "";
      const host = JSON.parse(printed) as { mcpServers: { formation: { command: string; args: string[] } } };
      const { command, args } = host.mcpServers.formation;
      expect([command, args[0]].every((path) => path?.startsWith("/") && existsSync(path))).toBe(true);

      const client = new Client({ name: "desktop", version: "1.0.0" });
      await client.connect(
        new StdioClientTransport({ command, args, env: { PATH: "", ...shared }, cwd: "/" }),
      );
      const result = await client.callTool({ name: "vm_status", arguments: { instance: "hello" } });
      const status = result.structuredContent as { state: string; urls: string[] };
      expect(status.state).toBe("running");
      expect(await (await fetch(status.urls[0] ?? "")).text()).toContain("Hello from a VM");
      await client.callTool({
        name: "vm_delete",
        arguments: { instance: "hello", confirm: "hello", wait_seconds: 45 },
      });
      await client.close();
      await expectNothingLeft(state.dir, before);
    } finally {
      await state.close();
    }
  });
});
