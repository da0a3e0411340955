// The table as hosts are told it: plain data, with every schema as JSON Schema already. A program that only lists need not
// make a single check, and a bundler may put the data in this module's place.

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
