// The doors. Each is a subpath, so that a program loads only the protocols that it speaks.

export { createMcpServerFactory, ERROR_META_KEY, type McpServerFactoryOptions } from "./mcp.ts";
export { type StdioWire, type StdioWireOptions, stdioWire } from "./stdio.ts";
