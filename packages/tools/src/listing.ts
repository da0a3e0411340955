// The table as hosts see it: plain data, with every schema as JSON Schema. A program that only lists tools
// builds no validators, and a bundler may replace this module by its data.

import { type ToolJsonSchemas, toolJsonSchemas } from "./json-schema.ts";
import { TOOLS } from "./table.ts";
import type { Tool } from "./tool.ts";

/** A tool in a list. */
export interface ListedTool
  extends Pick<Tool, "name" | "title" | "description" | "scope" | "annotations">,
    ToolJsonSchemas {}

/** All tools, in the order of the table. */
export const LISTING: readonly ListedTool[] = TOOLS.map((tool) => {
  const { name, title, description, scope, annotations } = tool;
  return { name, title, description, scope, annotations, ...toolJsonSchemas(tool) };
});
