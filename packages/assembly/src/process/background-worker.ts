// The background worker of a state directory: how a program finds it, starts it and replaces an older one.
// This folder knows what each program runs: the wired systems, the worker with its daemon and health port,
// logs and errors at the terminal.

import { closeSync, openSync, readFileSync, statSync, truncateSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { type ErrorRecord, FormationError } from "@formation-mcp/contract";
import {
  identify,
  isAlive,
  type ProcessIdentity,
  readFileIfPresent,
  sendSignal,
  spawnDetached,
  waitFor,
} from "@formation-mcp/os";
import { tryLock } from "@formation-mcp/os/sqlite";
import type { Layout } from "../open/layout.ts";
import type { Configuration } from "../settings/configuration.ts";
import { MACHINE } from "../settings/machine.ts";
import { settingsIn } from "../settings/setting.ts";
import { SHARED } from "../settings/shared.ts";
import { commandFor, compareVersions, type Program } from "./program.ts";

/** What the worker writes about itself into `worker.json`. */
export interface WorkerFile extends ProcessIdentity {
  version: string;
  /** `leaving` is written before the last look for work: a program that reads it starts another worker. */
  state: "starting" | "ready" | "leaving" | "failed";
  /** Where it looks for work: {@link recordsPlace}. */
  keeps: string;
  error?: ErrorRecord;
}

const START_MS = 30_000;
const DRAIN_MS = 120_000;
const MAX_LOG_BYTES = 10 * 1024 * 1024;
const LOG_TAIL_LINES = 5;

export interface BackgroundWorker {
  /**
   * Resolves when a worker runs that will see what is queued by now.
   * @throws FormationError `unavailable` with the worker's own words if it cannot run on this machine.
   */
  ensure(): Promise<void>;
}

export function createBackgroundWorker(
  configuration: Configuration,
  layout: Layout,
  program: Program,
): BackgroundWorker {
  let starting: Promise<void> | null = null;
  return {
    async ensure() {
      if (findWorker(layout)?.state === "ready") return;
      starting ??= start(configuration, layout, program).finally(() => {
        starting = null;
      });
      await starting;
    },
  };
}

/** The living worker of this state directory, or null. */
export function findWorker(layout: Layout): WorkerFile | null {
  const file = readWorkerFile(layout);
  return file && file.state !== "failed" && isAlive(file) ? file : null;
}

/** Where these settings keep records and wake-ups. A worker never learns of work that is kept elsewhere. */
export function recordsPlace({ shared }: Pick<Configuration, "shared">): string {
  const records = shared.database ? "PostgreSQL" : "SQLite";
  return shared.nats ? `${records} and NATS` : records;
}

/**
 * Asks an older worker to finish its operations and leave, so that the database can be migrated.
 * @throws FormationError `unavailable` if the worker is newer than this program, `conflict` if it keeps its
 *   records elsewhere.
 */
export async function retireOlderWorker(
  configuration: Configuration,
  layout: Layout,
  program: Program,
): Promise<void> {
  const running = findWorker(layout);
  if (!running) return;
  const place = recordsPlace(configuration);
  if (running.keeps !== place) {
    throw new FormationError(
      "conflict",
      `The worker of this state directory works on ${running.keeps}, and these settings say ${place}.`,
      {
        remedy:
          "Give all programs of a state directory the same FORMATION_DATABASE_… and FORMATION_NATS_… settings, or this one another FORMATION_STATE_DIR.",
      },
    );
  }
  const order = compareVersions(running.version, program.version);
  if (order === 0) return;
  if (order > 0) {
    throw new FormationError(
      "unavailable",
      `A newer formation-mcp (${running.version}) works on this state directory; this is ${program.version}.`,
      { remedy: "Update formation-mcp, then try again." },
    );
  }
  sendSignal(running, "SIGTERM");
  await waitFor(() => !isAlive(running), {
    timeoutMs: DRAIN_MS,
    what: "the older worker to finish and leave",
  });
}

async function start(configuration: Configuration, layout: Layout, program: Program): Promise<void> {
  await retireOlderWorker(configuration, layout, program);
  const end = performance.now() + START_MS;
  let own: ProcessIdentity | null = null;
  while (performance.now() < end) {
    const found = findWorker(layout);
    if (found?.state === "ready") return;
    if (own && !isAlive(own)) {
      const failed = readWorkerFile(layout);
      if (failed?.state === "failed" && failed.error && failed.pid === own.pid) {
        const { code, message, ...details } = failed.error;
        throw new FormationError(code, message, details);
      }
      if (!found)
        throw new FormationError("unavailable", `The worker ended as it started.\n${logTail(layout)}`, {
          remedy: "Run `formation-mcp doctor`, and look at worker.log in the state directory.",
        });
    }
    if (!own && !found) own = await spawnIfFree(configuration, layout, program);
    await delay(25);
  }
  throw new FormationError("unavailable", `The worker did not become ready within ${START_MS / 1000} s.`, {
    remedy: "Look at worker.log in the state directory.",
  });
}

/** Spawns a worker, unless another one holds the lock because it is starting or leaving. */
async function spawnIfFree(
  configuration: Configuration,
  layout: Layout,
  program: Program,
): Promise<ProcessIdentity | null> {
  const lock = await tryLock(layout.lock);
  if (!lock) return null;
  lock.release();
  const { file, args } = commandFor(program, layout.versions, [
    "worker",
    "--background",
    "--state-dir",
    configuration.stateDir,
  ]);
  const log = openLog(layout.workerLog);
  try {
    const pid = await spawnDetached(file, args, {
      cwd: layout.root,
      env: workerEnvironment(configuration),
      stdio: ["ignore", log, log],
    });
    return identify(pid) ?? { pid, start_ticks: "" };
  } finally {
    closeSync(log);
  }
}

const INHERITED = ["HOME", "PATH", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR"];
const USUAL_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/**
 * The variables that the background worker is started with: its settings, and what programs need to be found.
 */
function workerEnvironment({ environment }: Configuration): Record<string, string> {
  const settings = [MACHINE, SHARED].flatMap((section) => settingsIn(section.settings));
  const names = [...settings.map(({ name }) => name), ...INHERITED];
  const env = Object.fromEntries(Object.entries(environment).filter(([name]) => names.includes(name)));
  // A desktop host may give an empty PATH, and buildah and QEMU may be in the sbin directories.
  const path = (env["PATH"] ?? "").split(":").filter((part) => part !== "");
  env["PATH"] = [...path, ...USUAL_PATH.filter((part) => !path.includes(part))].join(":");
  return env;
}

function readWorkerFile(layout: Layout): WorkerFile | null {
  const text = readFileIfPresent(layout.workerFile);
  if (text === null) return null;
  try {
    return JSON.parse(text) as WorkerFile;
  } catch {
    return null;
  }
}

function openLog(path: string): number {
  try {
    if (statSync(path).size > MAX_LOG_BYTES) truncateSync(path);
  } catch {
    // There is none yet.
  }
  return openSync(path, "a", 0o600);
}

function logTail(layout: Layout): string {
  try {
    return readFileSync(layout.workerLog, "utf8").trim().split("\n").slice(-LOG_TAIL_LINES).join("\n");
  } catch {
    return "";
  }
}
