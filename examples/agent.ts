// Shared by both examples: an MCP client that shows the progress of a call and follows each operation to its
// end, as an agent does.

import { Client } from "@modelcontextprotocol/client";

interface Result {
  structuredContent?: Record<string, unknown>;
  isError?: boolean;
  content: { type: string; text?: string }[];
}

export interface Agent {
  client: Client;
  call(name: string, input: Record<string, unknown>): Promise<Record<string, unknown>>;
  /** @throws the error of the operation if it failed or was cancelled. */
  finished(first: Record<string, unknown>, what: string): Promise<void>;
}

export function startAgent(name: string, say: (text: string) => void): Agent {
  const client = new Client({ name, version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  const call: Agent["call"] = async (tool, input) => {
    let last = "";
    const onprogress = (progress: { message?: string | undefined }) => {
      if (!progress.message || progress.message === last) return;
      last = progress.message;
      say(`         ${last}`);
    };
    const options = { onprogress, timeout: 60_000 };
    const result = (await client.callTool({ name: tool, arguments: input }, options)) as Result;
    if (result.isError || !result.structuredContent) {
      throw new Error(`${tool} failed:\n${result.content.map((part) => part.text ?? "").join("\n")}`);
    }
    return result.structuredContent;
  };
  return {
    client,
    call,
    async finished(first, what) {
      let seen = first;
      for (let round = 0; round < 60 && seen["done"] !== true; round++) {
        seen = await call("operation_get", { id: first["operation_id"], wait_seconds: 30 });
      }
      if (seen["done"] === true && !["failed", "cancelled"].includes(String(seen["state"]))) return;
      throw new Error(`${what} ended: ${JSON.stringify(seen, null, 2)}`);
    },
  };
}
