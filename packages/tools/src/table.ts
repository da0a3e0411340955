// The table: every tool, in the order in which hosts list them.

import type { z } from "zod";
import { buildGet, buildList, packBuild } from "./builds.ts";
import { packShip, vmControl, vmCreate, vmDelete, vmList, vmLogs, vmStatus } from "./instances.ts";
import { nodeList } from "./nodes.ts";
import { operationCancel, operationGet, operationList } from "./operations.ts";
import type { Tool } from "./tool.ts";

/** All tools. The order is stable, so that prompt caches of hosts stay valid. */
export const TOOLS = [
  packBuild,
  packShip,
  buildList,
  buildGet,
  vmCreate,
  vmList,
  vmStatus,
  vmControl,
  vmDelete,
  vmLogs,
  operationGet,
  operationList,
  operationCancel,
  nodeList,
] as const satisfies readonly Tool[];

type Row = (typeof TOOLS)[number];
export type ToolName = Row["name"];

/** A tool's input as a caller writes it. Fields with a default may be absent. */
export type ToolArguments<N extends ToolName> = z.input<Extract<Row, { name: N }>["input"]>;
/** A tool's input after the check, with every default filled in. */
export type ToolInput<N extends ToolName> = z.output<Extract<Row, { name: N }>["input"]>;
/** What a tool returns. */
export type ToolOutput<N extends ToolName> = z.output<Extract<Row, { name: N }>["output"]>;

const byName = new Map<string, Row>(TOOLS.map((tool) => [tool.name, tool]));

/** The tool of that name, or undefined. */
export function findTool(name: string): Row | undefined {
  return byName.get(name);
}
