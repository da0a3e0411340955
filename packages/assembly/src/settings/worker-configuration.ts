// The configuration of the worker daemon.

import { type Configuration, parseCommon, type SettingOverrides } from "./configuration.ts";
import { NODE, type NodeSettings } from "./node.ts";
import { gather, parseSection, wrongSettings } from "./read.ts";
import type { Environment } from "./setting.ts";

export interface WorkerConfiguration extends Configuration, NodeSettings {}

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
