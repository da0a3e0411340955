// The one background worker of a state directory: how it is found, started, and replaced by a newer one.

import { closeSync, openSync, readFileSync, statSync, truncateSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { type ErrorRecord, FormationError } from "@formation-mcp/contract";
import {
  identify,
  isAlive,
  type ProcessIdentity,
  readIfThere,
  sendSignal,
  spawnDetached,
  waitFor,
} from "@formation-mcp/os";
import { tryLock } from "@formation-mcp/os/sqlite";
import type { Layout } from "../open/layout.ts";
import { type Configuration, workerEnvironment } from "../settings/configuration.ts";
import { commandFor, compareVersions, type Program } from "./program.ts";

/** What the worker writes about itself. */
export interface WorkerFile extends ProcessIdentity {
  version: string;
  /** `leaving` is written before the last look for work: whoever reads it starts another worker. */
  state: "starting" | "ready" | "leaving" | "failed";
  /** Where it looks for work: {@link keptIn}. */
  keeps: string;
  error?: ErrorRecord;
}

const START_MS = 30_000;
const DRAIN_MS = 120_000;
const LOG_BYTES = 10 * 1024 * 1024;

export interface WorkerProcess {
  /**
   * Resolves when a worker runs that will see what is queued by now.
   * @throws FormationError `unavailable` with the worker's own words if it cannot run on this machine.
   */
  ensure(): Promise<void>;
}

function readWorkerFile(layout: Layout): WorkerFile | null {
  const text = readIfThere(layout.workerFile);
  if (text === null) return null;
  try {
    return JSON.parse(text) as WorkerFile;
  } catch {
    return null;
  }
}

/** The living worker of this state directory, or null. */
export function findWorker(layout: Layout): WorkerFile | null {
  const file = readWorkerFile(layout);
  return file && file.state !== "failed" && isAlive(file) ? file : null;
}

/** Where these settings have the records and the wake-ups. A worker never hears of what is kept elsewhere. */
export function keptIn({ sharedSettings }: Configuration): string {
  const records = sharedSettings["FORMATION_DATABASE_URL"] ? "PostgreSQL" : "SQLite";
  return sharedSettings["FORMATION_NATS_URL"] ? `${records} and NATS` : records;
}

/**
 * Asks an older worker to finish what it runs and leave, so that the database can be brought up to date.
 * @throws FormationError `unavailable` if the worker is newer than this program, `conflict` if it keeps its records elsewhere.
 */
export async function settleVersions(
  configuration: Configuration,
  layout: Layout,
  program: Program,
): Promise<void> {
  const running = findWorker(layout);
  if (!running) return;
  const keeps = keptIn(configuration);
  if (running.keeps !== keeps) {
    throw new FormationError(
      "conflict",
      `The worker of this state directory works on ${running.keeps}, and these settings say ${keeps}.`,
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

/** @param environment where the worker's settings stand, if not in this process's environment. */
export function workerProcess(
  configuration: Configuration,
  layout: Layout,
  program: Program,
  environment?: Record<string, string | undefined>,
): WorkerProcess {
  let starting: Promise<void> | null = null;
  return {
    async ensure() {
      if (findWorker(layout)?.state === "ready") return;
      starting ??= start(configuration, layout, program, environment).finally(() => {
        starting = null;
      });
      await starting;
    },
  };
}

async function start(
  configuration: Configuration,
  layout: Layout,
  program: Program,
  environment: Record<string, string | undefined> | undefined,
): Promise<void> {
  await settleVersions(configuration, layout, program);
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
        throw new FormationError("unavailable", `The worker ended as it started.\n${lastLines(layout)}`, {
          remedy: "Run `formation-mcp doctor`, and look at worker.log in the state directory.",
        });
    }
    if (!own && !found) own = await spawnIfFree(configuration, layout, program, environment);
    await delay(25);
  }
  throw new FormationError("unavailable", `The worker did not become ready within ${START_MS / 1000} s.`, {
    remedy: "Look at worker.log in the state directory.",
  });
}

async function spawnIfFree(
  configuration: Configuration,
  layout: Layout,
  program: Program,
  environment: Record<string, string | undefined> | undefined,
): Promise<ProcessIdentity | null> {
  const lock = await tryLock(layout.lock);
  if (!lock) return null; // one is just starting or just leaving
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
      env: workerEnvironment(environment),
      stdio: ["ignore", log, log],
    });
    return identify(pid) ?? { pid, start_ticks: "" };
  } finally {
    closeSync(log);
  }
}

function openLog(path: string): number {
  try {
    if (statSync(path).size > LOG_BYTES) truncateSync(path);
  } catch {
    // There is none yet.
  }
  return openSync(path, "a", 0o600);
}

function lastLines(layout: Layout): string {
  try {
    return readFileSync(layout.workerLog, "utf8").trim().split("\n").slice(-5).join("\n");
  } catch {
    return "";
  }
}
