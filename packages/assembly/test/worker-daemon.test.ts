import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSystem, readConfiguration } from "@formation-mcp/assembly";
import { localPrincipal } from "@formation-mcp/auth";
import { waitFor } from "@formation-mcp/os";
import { baseEnvironment } from "@formation-mcp/os/testing/base-environment";
import { afterEach, beforeEach, expect, test } from "vitest";

const MAIN = join(import.meta.dirname, "../../../apps/worker/src/main.ts");

interface Daemon {
  child: ChildProcess;
  output(): string;
  /** A page of its health port. */
  get(path: string): Promise<{ status: number; text: string }>;
  ended: Promise<number | null>;
}

let dir: string;
const running: Daemon[] = [];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "formation-daemon-"));
});
afterEach(async () => {
  for (const { child, ended } of running.splice(0)) {
    child.kill("SIGKILL");
    await ended;
  }
  rmSync(dir, { recursive: true, force: true });
});

function environment(env: Record<string, string> = {}): Record<string, string> {
  return { ...baseEnvironment(), FORMATION_DRIVERS: "fake", FORMATION_STATE_DIR: dir, ...env };
}

async function start(env: Record<string, string> = {}): Promise<Daemon> {
  const child = spawn(process.execPath, ["--conditions=formation-source", MAIN], {
    env: environment({ FORMATION_HEALTH_ADDRESS: "127.0.0.1:0", ...env }),
    stdio: ["ignore", "ignore", "pipe"],
  });
  let output = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  const ended = once(child, "close").then(([code]) => code as number | null);
  const address = await waitFor(() => /are served","address":"([^"]+)"/.exec(output)?.[1], {
    timeoutMs: 30_000,
    what: "the health port",
  });
  const daemon: Daemon = {
    child,
    output: () => output,
    ended,
    async get(path) {
      const answer = await fetch(`http://${address}${path}`);
      return { status: answer.status, text: await answer.text() };
    },
  };
  running.push(daemon);
  await waitFor(async () => (await daemon.get("/health/ready")).status === 200, {
    timeoutMs: 30_000,
    what: "the worker to be ready",
  });
  return daemon;
}

async function command(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, ["--conditions=formation-source", MAIN, ...args], {
    env: environment(),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out, err };
}

/** Starts a build with the fake drivers that runs until it is ended, and waits until it runs. */
async function endlessBuild(): Promise<{ id: string; state(): Promise<unknown>; close(): Promise<void> }> {
  const system = await openSystem({ configuration: readConfiguration({ stateDir: dir }, environment()) });
  const call = (tool: string, input: unknown) => system.control.call(localPrincipal(0), tool, input);
  const begun = await call("pack_build", {
    formfile: { from: "busybox", name: "endless", run: ["sleep 1000"], entrypoint: ["true"] },
    wait_seconds: 0,
  });
  const id = String(begun["operation_id"]);
  const state = async () => (await call("operation_get", { id, wait_seconds: 0 }))["state"];
  await waitFor(async () => (await state()) === "running", { timeoutMs: 30_000, what: "the build to run" });
  return { id, state, close: () => system.close() };
}

test("it says that it lives and works, shows its numbers, and nothing else is there", async () => {
  const daemon = await start({ FORMATION_NODE_NAME: "rack-1" });
  expect((await daemon.get("/health/live")).status).toBe(200);
  expect(JSON.parse((await daemon.get("/health/ready")).text)).toMatchObject({
    ready: true,
    parts: { worker: "ok", store: "ok", queue: "ok", artifacts: "ok" },
  });
  const { text } = await daemon.get("/metrics");
  for (const line of text.trim().split("\n")) {
    expect(line).toMatch(/^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z_]+="[^"]*"\})? -?[0-9.e+]+)$/);
  }
  expect(text).toMatch(/^formation_worker_ready 1$/m);
  expect((await daemon.get("/")).status).toBe(404);
  expect((await daemon.get("/__proto__")).status).toBe(404);
  const status = await command("status");
  expect(status.code).toBe(0);
  expect(JSON.parse(status.out)).toMatchObject({ worker: { state: "ready", pid: daemon.child.pid } });
});

test("its log is JSON, line by line", async () => {
  const daemon = await start();
  daemon.child.kill("SIGTERM");
  expect(await daemon.ended).toBe(0);
  const lines = daemon.output().trim().split("\n");
  for (const line of lines) expect(JSON.parse(line)).toHaveProperty("level");
  expect(lines.length).toBeGreaterThan(2);
});

test("a second worker of one state directory is refused", async () => {
  await start();
  expect((await command()).code).toBe(1);
});

test("told to leave it lets what runs go on for its time, and gives it back then: nothing is lost", async () => {
  const daemon = await start({ FORMATION_DRAIN_SECONDS: "1" });
  const build = await endlessBuild();
  expect((await daemon.get("/metrics")).text).toMatch(/^formation_operations_running 1$/m);
  daemon.child.kill("SIGTERM");
  await waitFor(async () => (await daemon.get("/health/ready")).status === 503, {
    timeoutMs: 10_000,
    everyMs: 20,
    what: "the worker to say that it leaves",
  });
  expect(await daemon.ended).toBe(0);
  expect(await build.state()).toBe("queued");
  await build.close();
});

test("told twice it gives back what runs at once", async () => {
  const daemon = await start({ FORMATION_DRAIN_SECONDS: "3600" });
  const build = await endlessBuild();
  daemon.child.kill("SIGTERM");
  await waitFor(() => /"message":"leaving"/.test(daemon.output()), { timeoutMs: 10_000, what: "a word" });
  daemon.child.kill("SIGTERM");
  expect(await daemon.ended).toBe(0);
  expect(await build.state()).toBe("queued");
  await build.close();
});

test("drain waits until the worker has left", async () => {
  const daemon = await start();
  const drained = await command("drain");
  expect(drained).toMatchObject({ code: 0, out: "The worker has left.\n" });
  expect(await daemon.ended).toBe(0);
  expect((await command("drain")).out).toBe("No worker runs here.\n");
  expect((await command("status")).code).toBe(1);
});

test("where no node ever was, status and drain make none and say where they looked", async () => {
  for (const word of ["status", "drain"]) {
    const { code, out, err } = await command(word);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toContain(`works on the state directory ${dir}.`);
    expect(err).toMatch(/There is nothing in .*: no node\.\n.*FORMATION_STATE_DIR/);
  }
  expect(readdirSync(dir)).toEqual([]);
});

test("an option that there is not is the caller's mistake, as with every program", async () => {
  const { code, out, err } = await command("--bogus");
  expect([code, out]).toEqual([2, ""]);
  expect(err).toBe("formation-mcp-worker: Unknown option '--bogus'.\n  See: formation-mcp-worker --help\n");
});

test("a node's entry for NATS has its public key alone, and is the same each time", async () => {
  const key = join(dir, "worker.nk");
  const { out } = await command("nats-user", "--key", key);
  expect(out).toMatch(/nkey: U[A-Z2-7]{55}\n/);
  expect(out).toContain(`vm.control.${readFileSync(join(dir, "node-id"), "utf8").trim()}`);
  expect(out).not.toContain(readFileSync(key, "utf8").trim());
  expect((await command("nats-user", "--key", key)).out).toBe(out);
});
