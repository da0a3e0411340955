// The worker as a daemon: settings of the environment over a file, signals, what it tells its service manager and
// whoever watches it. It leaves with what it ran finished or given back, and never takes VMs along.

import { checkLabels, FormationError } from "@formation-mcp/contract";
import { isAlive, sendSignal, waitFor } from "@formation-mcp/os";
import { z } from "zod";
import { openLayout } from "../open/layout.ts";
import { natsUserOf } from "../open/nats-user.ts";
import { nodeId, nodeName } from "../open/node.ts";
import { openWorkerRecords } from "../open/records.ts";
import { requireNode } from "../open/target.ts";
import {
  amount,
  type Configuration,
  problemsOf,
  readConfiguration,
  settingsProblems,
  tellStrangers,
  withoutEmpty,
  wrongSettings,
} from "../settings/configuration.ts";
import { readSettingsFile } from "../settings/file.ts";
import { readSharedConfiguration, type SharedConfiguration } from "../settings/shared-configuration.ts";
import { SHARED_VARIABLES, VARIABLES, WORKER_VARIABLES } from "../settings/variables.ts";
import { findWorker } from "./background-worker.ts";
import { openHealth } from "./health-server.ts";
import { jsonLogger } from "./logging.ts";
import { runWorker } from "./run-worker.ts";
import { serviceManager } from "./service-manager.ts";

const labels = z
  .string()
  .default("")
  .transform((text, context) => {
    const pairs = text
      .split(/[\s,]+/)
      .filter((part) => part !== "")
      .map((pair) => [pair.split("=", 1)[0] ?? "", pair.slice(pair.indexOf("=") + 1), pair] as const);
    const wrong = pairs.find(([, , pair]) => !pair.includes("="));
    try {
      if (wrong)
        throw new FormationError("invalid", `write key=value instead of ${JSON.stringify(wrong[2])}`);
      return checkLabels(Object.fromEntries(pairs.map(([key, value]) => [key, value])));
    } catch (error) {
      context.addIssue({ code: "custom", message: (error as Error).message });
      return z.NEVER;
    }
  });
const schema = z.object({
  FORMATION_NODE_NAME: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/, "write letters, digits, dots and hyphens, at most 63")
    .optional(),
  FORMATION_NODE_LABELS: labels,
  FORMATION_HEALTH_ADDRESS: z
    .string()
    .refine((text) => addressOf(text) !== null, "write host:port, as 127.0.0.1:9464")
    .optional(),
  FORMATION_DRAIN_SECONDS: amount(0, 86_400, 60).default(60),
});

export interface WorkerConfiguration extends Configuration {
  shared: SharedConfiguration;
  node: { name: string | null; labels: Record<string, string> };
  health: { host: string; port: number } | null;
  drainMs: number;
}

/**
 * Reads the settings of the worker.
 * @param overrides what the command line says: a file whose settings the environment overrides, and the state directory.
 * @throws FormationError `invalid`, naming everything that is wrong at once.
 */
export function readWorkerConfiguration(
  overrides: { file?: string | undefined; stateDir?: string | undefined } = {},
  environment: Record<string, string | undefined> = process.env,
): WorkerConfiguration {
  const known = [VARIABLES, SHARED_VARIABLES, WORKER_VARIABLES].flatMap((each) => Object.keys(each));
  const file =
    overrides.file === undefined ? { given: {}, problems: [] } : readSettingsFile(overrides.file, known);
  const given = withoutEmpty({ ...file.given, ...withoutEmpty(environment) });
  const parsed = schema.safeParse(given);
  const { shared, problems: sharedProblems } = readSharedConfiguration(given);
  const everywhere = ["0.0.0.0", "::"].includes(given["FORMATION_BIND_ADDRESS"] ?? "");
  const problems = [
    ...file.problems,
    ...settingsProblems(given),
    ...sharedProblems,
    ...(parsed.success ? [] : problemsOf(parsed.error)),
    ...(everywhere && shared?.database
      ? ["FORMATION_BIND_ADDRESS: write this node's own address: it stands in the URLs of its VMs"]
      : []),
  ];
  if (problems.length > 0 || !parsed.success || !shared) throw wrongSettings(problems);
  const env = parsed.data;
  return {
    ...readConfiguration({ stateDir: overrides.stateDir }, given),
    shared,
    node: { name: env.FORMATION_NODE_NAME ?? null, labels: env.FORMATION_NODE_LABELS },
    health: env.FORMATION_HEALTH_ADDRESS === undefined ? null : addressOf(env.FORMATION_HEALTH_ADDRESS),
    drainMs: env.FORMATION_DRAIN_SECONDS * 1000,
  };
}

function addressOf(text: string): { host: string; port: number } | null {
  const found = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  return found && port <= 65_535 ? { host: found[1] ?? found[2] ?? "", port } : null;
}

/**
 * Runs the worker until SIGTERM or SIGINT: then what runs may go on for `drainMs`, or until a second signal.
 * @returns the exit code: 1 if another worker holds the state directory.
 */
export async function workerDaemon(configuration: WorkerConfiguration, version: string): Promise<number> {
  const logger = jsonLogger(configuration.logLevel);
  tellStrangers(logger);
  const manager = serviceManager(logger);
  const [leave, hurry] = [new AbortController(), new AbortController()];
  const told = (signal: NodeJS.Signals) => {
    logger.log("info", leave.signal.aborted ? "told again: giving back what runs" : "leaving", { signal });
    (leave.signal.aborted ? hurry : leave).abort();
  };
  process.on("SIGTERM", told).on("SIGINT", told);
  process.on("SIGHUP", () => {});
  const health = configuration.health ? await openHealth(configuration.health, version, logger) : null;
  if (health) logger.log("info", "health and metrics are served", { address: health.address });
  try {
    const ran = await runWorker({
      configuration,
      logger,
      version,
      signal: leave.signal,
      hurry: hurry.signal,
      drainMs: configuration.drainMs,
      leaveWhenIdle: false,
      node: configuration.node,
      open: openWorkerRecords(configuration.shared, configuration.cacheBytes),
      ...(health ? { attend: (parts) => health.attend(parts) } : {}),
      said(state) {
        health?.said(state);
        void (state === "ready" ? manager.ready("working") : manager.leaving());
      },
    });
    if (!ran) logger.log("error", "a worker already runs here", { state_dir: configuration.stateDir });
    else logger.log("info", "left", {});
    return ran ? 0 : 1;
  } finally {
    manager.close();
    await health?.close();
  }
}

/**
 * What the node of a state directory is, and the worker that runs there, if one does.
 * @throws FormationError `not_found` where no node ever was.
 */
export function workerStatus(configuration: WorkerConfiguration): Record<string, unknown> {
  requireNode(configuration.stateDir);
  const layout = openLayout(configuration.stateDir);
  const worker = findWorker(layout);
  return {
    node_id: nodeId(layout),
    name: configuration.node.name ?? nodeName(),
    labels: configuration.node.labels,
    state_dir: layout.root,
    worker: worker ? { state: worker.state, pid: worker.pid, version: worker.version } : null,
  };
}

/**
 * The entry of this node in the configuration of NATS, with the least rights; makes the node's id and its key if need be.
 * @param key where the key is kept; by default where FORMATION_NATS_NKEY says, which may name a file that is to be made.
 */
export async function workerNatsUser(
  overrides: { file?: string | undefined; stateDir?: string | undefined },
  key: string | undefined,
  environment: Record<string, string | undefined> = process.env,
): Promise<string> {
  const { FORMATION_NATS_NKEY, ...others } = environment;
  const { stateDir } = readWorkerConfiguration(overrides, others);
  return natsUserOf({ role: "worker", node: nodeId(openLayout(stateDir)) }, key ?? FORMATION_NATS_NKEY);
}

/**
 * Tells the worker of the state directory to leave, and waits until it has.
 * @returns whether there was one.
 * @throws FormationError `unavailable` if it stays, `not_found` where no node ever was.
 */
export async function drainWorker(configuration: WorkerConfiguration): Promise<boolean> {
  requireNode(configuration.stateDir);
  const worker = findWorker(openLayout(configuration.stateDir));
  if (!worker) return false;
  sendSignal(worker, "SIGTERM");
  await waitFor(() => !isAlive(worker), {
    timeoutMs: configuration.drainMs + 30_000,
    everyMs: 100,
    what: "the worker to leave",
  }).catch((cause: unknown) => {
    throw new FormationError("unavailable", `The worker (pid ${worker.pid}) does not leave.`, {
      cause,
      remedy: "Look at its log; a second SIGTERM makes it give back what runs.",
    });
  });
  return true;
}
