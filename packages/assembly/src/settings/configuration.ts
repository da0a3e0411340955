// The typed configuration of each program. This folder knows every setting: its name, help, schema and
// default, how files and the environment are read, and what is wrong with them. Nothing else in the project
// reads the environment's settings.

import { join, resolve } from "node:path";
import type { Logger } from "@formation-mcp/contract";
import { HTTP, type HttpSettings, httpProblems } from "./http.ts";
import { MACHINE, type MachineSettings, machineProblems } from "./machine.ts";
import { NODE, type NodeSettings } from "./node.ts";
import { type GivenSettings, gather, parseSection, withoutEmpty, wrongSettings } from "./read.ts";
import { configDirectory, REMOTE, type RemoteSettings } from "./remote.ts";
import { complete, type Environment } from "./setting.ts";
import { SHARED, type SharedServices, sharedProblems, sharedServices } from "./shared.ts";

/** What every program that works on this machine is configured with. */
export interface Configuration extends MachineSettings {
  shared: SharedServices;
  /**
   * The variables that the settings came from, those of the file included. A background worker is started
   * with them.
   */
  environment: Record<string, string>;
  /** Variables that begin with FORMATION_ and change nothing. */
  unknownVariables: string[];
}

export interface HttpConfiguration extends Configuration, Omit<HttpSettings, "tls"> {
  /** Paths of PEM files; null: plain HTTP. */
  tls: { cert: string; key: string } | null;
}

export interface WorkerConfiguration extends Configuration, NodeSettings {}

export interface RemoteConfiguration extends RemoteSettings {
  /** Whether the command line or the environment names the key file; then it must exist. */
  keyFileNamed: boolean;
  /** Servers that were signed in to, with their sessions. */
  credentialsFile: string;
  /** What holds keys and sessions; no context may include it. */
  privatePaths: string[];
}

/** What the command line says; it overrides the environment, and the environment overrides the file. */
export interface SettingOverrides {
  file?: string | undefined;
  stateDir?: string | undefined;
}

/**
 * Reads the settings of `formation-mcp`, or of the background worker that a program starts.
 * @throws FormationError `invalid`, naming everything that is wrong at once.
 */
export function readConfiguration(
  overrides: Pick<SettingOverrides, "stateDir"> & { allowDirs?: string[] | undefined } = {},
  environment: Environment = process.env,
): Configuration {
  const given = gather("formation-mcp", environment);
  const common = parseCommon(given, overrides);
  if (given.problems.length > 0 || !common) throw wrongSettings(given.problems);
  const { allowDirs } = overrides;
  return allowDirs?.length ? { ...common, allowDirs: allowDirs.map((dir) => resolve(dir)) } : common;
}

/**
 * Reads the settings of the HTTP server.
 * @throws FormationError `invalid`, naming everything that is wrong at once.
 */
export function readHttpConfiguration(
  overrides: SettingOverrides = {},
  environment: Environment = process.env,
): HttpConfiguration {
  const given = gather("formation-mcp-http", environment, overrides.file);
  const common = parseCommon(given, overrides);
  const http = parseSection(HTTP, given, httpProblems);
  if (common?.shared.database && http?.masterKeyFile === null) {
    given.problems.push(
      "FORMATION_MASTER_KEY_FILE: set it, as what it seals is in the database: a file of 32 random bytes that every server has",
    );
  }
  if (given.problems.length > 0 || !common || !http) throw wrongSettings(given.problems);
  return { ...common, ...http, tls: complete(http.tls) };
}

/**
 * Reads the settings of the worker daemon.
 * @throws FormationError `invalid`, naming everything that is wrong at once.
 */
export function readWorkerConfiguration(
  overrides: SettingOverrides = {},
  environment: Environment = process.env,
): WorkerConfiguration {
  const given = gather("formation-mcp-worker", environment, overrides.file);
  const common = parseCommon(given, overrides);
  const node = parseSection(NODE, given);
  if (common?.shared.database && ["0.0.0.0", "::"].includes(common.bindAddress)) {
    given.problems.push(
      "FORMATION_BIND_ADDRESS: write this node's own address: it stands in the URLs of its VMs",
    );
  }
  if (given.problems.length > 0 || !common || !node) throw wrongSettings(given.problems);
  return { ...common, ...node };
}

/**
 * Reads the settings of a client of a server.
 * @param overrides what the command line says; it overrides the environment.
 */
export function readRemoteConfiguration(
  overrides: { url?: string | undefined; keyFile?: string | undefined } = {},
  environment: Environment = process.env,
): RemoteConfiguration {
  const { url, keyFile } = REMOTE.settings;
  const given = {
    environment: withoutEmpty({
      ...environment,
      ...(overrides.url === undefined ? {} : { [url.name]: overrides.url }),
      ...(overrides.keyFile === undefined ? {} : { [keyFile.name]: overrides.keyFile }),
    }),
    problems: [],
  };
  const remote = parseSection(REMOTE, given);
  if (!remote) throw wrongSettings(given.problems);
  const directory = configDirectory(environment);
  return {
    ...remote,
    keyFileNamed: given.environment[keyFile.name] !== undefined,
    credentialsFile: join(directory, "credentials.json"),
    privatePaths: [directory, remote.keyFile],
  };
}

/**
 * Logs which variables begin like ours and change nothing: they may be another program's, or a setting under
 * a wrong name.
 */
export function warnUnknownVariables(
  logger: Logger,
  { unknownVariables }: Pick<Configuration, "unknownVariables">,
): void {
  if (unknownVariables.length > 0)
    logger.log("warn", "These variables are no settings of ours, and change nothing.", {
      variables: unknownVariables,
    });
}

function parseCommon(
  given: GivenSettings,
  { stateDir }: { stateDir?: string | undefined },
): Configuration | null {
  const machine = parseSection(MACHINE, given, machineProblems);
  const shared = parseSection(SHARED, given, sharedProblems);
  if (!machine || !shared) return null;
  return {
    ...machine,
    ...(stateDir === undefined ? {} : { stateDir: resolve(stateDir) }),
    shared: sharedServices(shared),
    environment: given.environment,
    unknownVariables: given.unknown,
  };
}
