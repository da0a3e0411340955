// The public API: what serves the tools over MCP. The stdio transport is a subpath of its own.

export { ERROR_META_KEY } from "./results.ts";
export { createMcpServerFactory, type McpServerFactoryOptions } from "./server.ts";
