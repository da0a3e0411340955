// The table of tools as data.

export { type ObjectSchema, type ToolJsonSchemas, toolJsonSchemas } from "./json-schema.ts";
export { INSTANCE_NAME } from "./shared-fields.ts";
export {
  findTool,
  TOOLS,
  type ToolArguments,
  type ToolInput,
  type ToolName,
  type ToolOutput,
} from "./table.ts";
export type { Tool, ToolAnnotations, ToolScope } from "./tool.ts";
