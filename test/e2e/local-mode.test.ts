// @module-tag bundles

// Local mode: any number of stdio servers share one background worker, which starts when needed and ends when
// idle.

import { execFile, spawn } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { identify, isAlive, type ProcessIdentity, waitFor } from "@formation-mcp/os";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterEach, describe, expect, test } from "vitest";
import {
  BUNDLE,
  ended,
  must,
  type Peer,
  programEnvironment,
  type ServerOptions,
  sdkV2,
  temporaryState,
  workerOf,
} from "../support/server.ts";

const FAKE = { FORMATION_DRIVERS: "fake" };
const formfile = {
  from: "busybox",
  name: "local",
  run: ["echo hello"],
  entrypoint: ["sleep", "1000"],
  resources: { memory_mb: 64 },
};

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});
function state(): string {
  const made = temporaryState();
  opened.push(made);
  return made.dir;
}
async function server(options: ServerOptions): Promise<Peer> {
  const peer = await sdkV2(options, "modern");
  opened.push(peer);
  return peer;
}
async function worker(stateDir: string): Promise<ProcessIdentity> {
  const pid = await waitFor(() => workerOf(stateDir)?.pid, { timeoutMs: 20_000, what: "a worker" });
  return identify(pid) as ProcessIdentity;
}

describe("In local mode", () => {
  test("listing the tools starts no worker and makes no file", async () => {
    const stateDir = join(state(), "not-yet");
    const peer = await server({ stateDir, env: FAKE });
    expect(await peer.tools()).toHaveLength(13);
    expect(() => readFileSync(join(stateDir, "formation.db"))).toThrow();
  });

  test("many servers share one worker and each other's records", async () => {
    const stateDir = state();
    const peers = await Promise.all(Array.from({ length: 4 }, () => server({ stateDir, env: FAKE })));
    const builds = await Promise.all(
      peers.map((peer, i) => must(peer, "pack_build", { formfile: { ...formfile, name: `n${i}` } })),
    );
    for (const [i, build] of builds.entries()) {
      const other = peers[(i + 1) % peers.length] as Peer;
      expect((await must(other, "build_get", { build_id: build["build_id"] }))["state"]).toBe("ready");
    }
    const running = await promisify(execFile)("sh", [
      "-c",
      'for p in /proc/[0-9]*/cmdline; do tr "\\0" " " < $p 2>/dev/null; echo; done',
    ]);
    const workers = running.stdout
      .split("\n")
      .filter((line) => line.includes("worker --background") && line.includes(stateDir));
    expect(workers).toHaveLength(1);
  });

  test("a build goes on when the server that was asked for it is killed", async () => {
    const stateDir = state();
    const first = await server({ stateDir, env: FAKE });
    const slow = { ...formfile, run: ["sleep 2; echo done"] };
    const started = await must(first, "pack_build", { formfile: slow, wait_seconds: 0 });
    process.kill(first.pid as number, "SIGKILL");
    const second = await server({ stateDir, env: FAKE });
    const last = await ended(second, started);
    expect(last["state"]).toBe("completed");
  });

  test("whoever follows an operation gets a new worker when the old one was killed", async () => {
    const stateDir = state();
    const peer = await server({ stateDir, env: FAKE });
    const started = await must(peer, "pack_build", {
      formfile: { ...formfile, run: ["sleep 1"] },
      wait_seconds: 0,
    });
    const first = await worker(stateDir);
    process.kill(first.pid, "SIGKILL");
    expect((await ended(peer, started))["state"]).toBe("completed");
    expect((await worker(stateDir)).pid).not.toBe(first.pid);
  });

  test("the worker leaves when it is idle, and stays while a VM runs", async () => {
    const stateDir = state();
    const peer = await server({ stateDir, env: { ...FAKE, FORMATION_IDLE_SECONDS: "0.5" } });
    const build = await must(peer, "pack_build", { formfile });
    const idle = await worker(stateDir);
    await waitFor(() => !isAlive(idle), { timeoutMs: 20_000, what: "the idle worker to leave" });

    const shipped = await ended(
      peer,
      await must(peer, "pack_ship", { build_id: build["build_id"], instance_name: "stays" }),
    );
    expect(shipped["done"]).toBe(true);
    const busy = await worker(stateDir);
    await waitFor(() => !isAlive(busy), { timeoutMs: 4000, what: "nothing" }).catch(() => {});
    expect(isAlive(busy)).toBe(true);
    await ended(peer, await must(peer, "vm_delete", { instance: "stays", confirm: "stays" }));
  });

  test("a newer program has the older worker leave, an older program says to update", async () => {
    const stateDir = state();
    const dir = mkdtempSync(join(tmpdir(), "formation-versions-"));
    opened.push({ close: async () => rmSync(dir, { recursive: true, force: true }) });
    const newer = join(dir, "formation-mcp.mjs");
    const version = /"(0\.\d+\.\d+)"/.exec(
      readFileSync(join(BUNDLE, "../../package.json"), "utf8"),
    )?.[1] as string;
    writeFileSync(newer, readFileSync(BUNDLE, "utf8").replaceAll(`"${version}"`, '"99.0.0"'));

    const old = await server({ stateDir, env: FAKE });
    await must(old, "pack_build", { formfile });
    const first = await worker(stateDir);
    const fresh = await server({ stateDir, env: FAKE, bundle: newer });
    await must(fresh, "pack_build", { formfile: { ...formfile, name: "newer" } });
    expect(isAlive(first)).toBe(false);
    expect(workerOf(stateDir)?.version).toBe("99.0.0");

    const late = await server({ stateDir, env: FAKE });
    const refused = await late.call("pack_build", { formfile });
    expect(refused.isError).toBe(true);
    expect(refused.text).toMatch(/Update formation-mcp/);
  });

  test("the worker lives on when the folder it was started from vanishes", async () => {
    const stateDir = state();
    const dir = mkdtempSync(join(tmpdir(), "formation-npx-"));
    const copy = join(dir, "formation-mcp.mjs");
    copyFileSync(BUNDLE, copy);
    const peer = await server({ stateDir, env: FAKE, bundle: copy });
    await must(peer, "pack_build", { formfile });
    rmSync(dir, { recursive: true });
    expect((await must(peer, "pack_build", { formfile: { ...formfile, name: "again" } }))["state"]).toBe(
      "ready",
    );
  });

  test("--read-only offers only tools that change nothing, and refuses the others in plain words", async () => {
    const peer = await server({ stateDir: state(), args: ["--read-only"], env: FAKE });
    expect(await peer.tools()).not.toContain("pack_build");
    expect((await peer.call("pack_build", { formfile })).text).toMatch(/pack:write/);
  });
});

describe("On a machine that lacks QEMU and buildah", () => {
  /** A mount namespace in which neither program exists; other processes still see them. */
  const LACKING =
    'for each in qemu-system-x86_64 buildah; do mount --bind /dev/null /usr/bin/$each; done; exec "$@"';
  const without = (...words: string[]) => [
    "-rm",
    "sh",
    "-c",
    LACKING,
    "sh",
    process.execPath,
    BUNDLE,
    ...words,
  ];

  test("a call says what is missing and how to get it, and leaves nothing queued", async () => {
    const stateDir = state();
    const client = new Client({ name: "e2e", version: "1.0.0" });
    const args = without("--state-dir", stateDir);
    const env = await programEnvironment(stateDir);
    await client.connect(new StdioClientTransport({ command: "unshare", args, env, stderr: "ignore" }));
    opened.push(client);
    const refused = await client.callTool({ name: "pack_build", arguments: { formfile } });
    expect(refused.isError).toBe(true);
    expect(JSON.stringify(refused.content)).toMatch(/buildah.*apt-get install/);
    const { structuredContent } = await client.callTool({ name: "operation_list", arguments: {} });
    const { operations } = structuredContent as { operations: { state: string }[] };
    expect(operations.map((each) => each.state)).toEqual(["cancelled"]);
  });

  test("doctor names both and exits 1", async () => {
    const told = await promisify(execFile)("unshare", without("doctor", "--state-dir", state())).catch(
      (error: { code: number; stdout: string }) => error,
    );
    expect(told).toMatchObject({ code: 1 });
    expect(told.stdout).toMatch(/buildah is missing[\s\S]*qemu-system-x86_64 is not installed/);
  });
});

describe("The program", () => {
  test("says what is wrong with every setting at once", async () => {
    const child = spawn(process.execPath, [BUNDLE], {
      env: { FORMATION_BIND_ADDRESS: "nowhere", FORMATION_SWEEP_SECONDS: "often" },
    });
    let text = "";
    child.stderr.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    const code = await new Promise((resolve) => child.once("exit", resolve));
    expect(code).toBe(1);
    expect(text).toContain("FORMATION_BIND_ADDRESS");
    expect(text).toContain("FORMATION_SWEEP_SECONDS");
  });

  test("doctor tells what is there, what is enforced, and exits 0 where VMs can run", async () => {
    const stateDir = state();
    const { stdout } = await promisify(execFile)(process.execPath, [
      BUNDLE,
      "doctor",
      "--state-dir",
      stateDir,
    ]);
    expect(stdout).toContain("Enforced here");
    const json = await promisify(execFile)(process.execPath, [
      BUNDLE,
      "doctor",
      "--json",
      "--state-dir",
      stateDir,
    ]);
    expect(JSON.parse(json.stdout)["ready"]).toBe(true);
  });
});
