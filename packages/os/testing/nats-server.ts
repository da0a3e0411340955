// A real nats-server for tests and benchmarks: on loopback, on a port that it keeps over restarts, with its
// data in a temporary directory.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { waitFor } from "@formation-mcp/os";
import { freePort } from "./free-port.ts";

export interface NatsServer {
  /** Where clients connect, and the port alone. */
  readonly url: string;
  readonly port: number;
  /** Where streams are stored. */
  readonly dataDir: string;
  /** Ends the server. Removes its data, unless `dataDir` was given. */
  stop(): Promise<void>;
  /** Kills the server (SIGKILL); `restart` starts it again. */
  kill(): Promise<void>;
  /** Starts the server again at the same address. Ends it first if it runs. */
  restart(): Promise<void>;
  /** Kills the server and removes its data; `restart` starts it again, empty. */
  wipe(): Promise<void>;
  /** Makes the server read its configuration again (SIGHUP). */
  reload(): void;
  /** Stops (SIGSTOP) and continues the server: one that accepts connections and does not answer. */
  pause(): void;
  resume(): void;
}

export interface StartNatsOptions {
  /** Configuration: users, tls. The address and where streams are stored are set here. */
  config?: string;
  /**
   * A configuration file in place of that, which stores in `$NATS_STORE`; the server runs in its directory.
   */
  configFile?: string;
  /** Environment variables that the configuration refers to as `$NAME`. */
  env?: Record<string, string>;
  /** Where streams are stored; kept when it stops. */
  dataDir?: string;
}

/**
 * Starts nats-server and resolves when it accepts connections. If it does not start, throws with what it
 * printed.
 */
export async function startNats(options: StartNatsOptions = {}): Promise<NatsServer> {
  const directory = mkdtempSync(join(tmpdir(), "formation-nats-"));
  const dataDir = options.dataDir ?? join(directory, "data");
  const config = options.configFile ?? join(directory, "nats.conf");
  const port = await freePort();
  if (options.configFile === undefined) writeFileSync(config, options.config ?? "", { mode: 0o600 });

  let running: ChildProcess | undefined;

  const start = async () => {
    mkdirSync(dataDir, { recursive: true });
    // The server is killed when this process ends, however it ends (prctl(2), PR_SET_PDEATHSIG).
    const program = ["--pdeathsig", "KILL", "nats-server"];
    const args = [...program, "-c", config, "-a", "127.0.0.1", "-p", String(port), "-js"];
    // A configuration file names the store directory itself; nats-server refuses to get it twice.
    if (options.configFile === undefined) args.push("-sd", dataDir);
    const child = spawn("setpriv", args, {
      cwd: dirname(config),
      env: {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        NATS_STORE: dataDir,
        ...options.env,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    running = child;
    let printed = "";
    let error: Error | undefined;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      printed = (printed + text).slice(-4000);
    });
    child.once("error", (cause) => {
      error = cause;
    });
    const over = () => error !== undefined || child.exitCode !== null || child.signalCode !== null;
    await waitFor(() => over() || /Server is ready/.test(printed), {
      what: "nats-server",
      timeoutMs: 20_000,
      everyMs: 5,
    });
    if (over()) throw new Error(`nats-server did not start: ${error?.message ?? printed}`);
    await waitFor(() => accepts(port), { what: "nats-server's port", timeoutMs: 10_000, everyMs: 5 });
  };
  const end = async (signal: NodeJS.Signals) => {
    const child = running;
    running = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    // A stopped process handles other signals only after SIGCONT.
    if (signal !== "SIGKILL") child.kill("SIGCONT");
    await gone;
  };

  await start().catch((error: unknown) => {
    rmSync(directory, { recursive: true, force: true });
    throw error;
  });
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    dataDir,
    async stop() {
      await end("SIGKILL");
      rmSync(directory, { recursive: true, force: true });
    },
    kill: () => end("SIGKILL"),
    async restart() {
      await end("SIGTERM");
      await start();
    },
    reload: () => void running?.kill("SIGHUP"),
    async wipe() {
      await end("SIGKILL");
      rmSync(dataDir, { recursive: true, force: true });
    },
    pause: () => running?.kill("SIGSTOP"),
    resume: () => running?.kill("SIGCONT"),
  };
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
