// The configuration that every program on this machine has. This folder knows every setting: its name, help,
// schema and default, how files and the environment are read, and what is wrong with them. No other folder
// reads settings from the environment.

import { resolve } from "node:path";
import type { Logger } from "@formation-mcp/contract";
import { MACHINE, type MachineSettings, machineProblems } from "./machine.ts";
import { type GivenSettings, gather, parseSection, wrongSettings } from "./read.ts";
import type { Environment } from "./setting.ts";
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

/**
 * Parses the settings that every program on this machine has. Adds what is wrong to the problems of `given`.
 */
export function parseCommon(
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
