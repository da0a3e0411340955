// The baseline of the start-up comparison: the smallest MCP server, bundled exactly as ours is.

import { McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";

const input = z.object({ name: z.string() });

serveStdio(() => {
  const server = new McpServer({ name: "hello", version: "1.0.0" });
  server.registerTool("hello", { description: "Says hello.", inputSchema: input }, ({ name }) => ({
    content: [{ type: "text", text: `hello ${name}` }],
  }));
  return server;
});
