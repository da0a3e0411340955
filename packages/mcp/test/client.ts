// A real MCP client over linked transports, for a server of either protocol era.

import { allScopes, type Principal } from "@formation-mcp/auth";
import type { Control } from "@formation-mcp/control";
import { createToolGate } from "@formation-mcp/control/authorize";
import { createMcpServerFactory, type McpServerFactoryOptions } from "@formation-mcp/mcp";
import { Client } from "@modelcontextprotocol/client";
import { InMemoryTransport } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";

export type Json = Record<string, unknown>;
export type Era = "modern" | "legacy";
export const ERAS: readonly Era[] = ["modern", "legacy"];

export const ALICE: Principal = { owner: "alice", scopes: allScopes(), local: true };

/** What a tool said, as a host sees it. */
interface Said {
  isError: boolean;
  /** The structured content. */
  is: Json;
  /** The text blocks. */
  blocks: string[];
  text: string;
  meta: Json;
}

export interface Peer extends AsyncDisposable {
  client: Client;
  call(tool: string, input?: Json, options?: Parameters<Client["callTool"]>[1]): Promise<Said>;
  /** Calls and expects no error. */
  must(tool: string, input?: Json): Promise<Json>;
}

/** Connects a client as Alice, or as the options say. */
export async function connect(
  control: Control,
  options: { era?: Era; principal?: Principal } & Partial<McpServerFactoryOptions> = {},
): Promise<Peer> {
  const { era = "modern", principal = ALICE, ...rest } = options;
  const [near, far] = InMemoryTransport.createLinkedPair();
  const factory = createMcpServerFactory({
    control,
    principalFor: () => principal,
    version: "0.0.0-test",
    ...rest,
  });
  const server = serveStdio(factory, { transport: far });
  const client = new Client(
    { name: "test", version: "0" },
    era === "modern" ? { versionNegotiation: { mode: { pin: "2026-07-28" } } } : {},
  );
  await client.connect(near);
  const call: Peer["call"] = async (name, input = {}, callOptions) => {
    const result = await client.callTool({ name, arguments: input }, callOptions);
    const blocks = ((result.content ?? []) as { text: string }[]).map((block) => block.text);
    return {
      isError: result.isError === true,
      is: (result.structuredContent ?? {}) as Json,
      blocks,
      text: blocks.join("\n"),
      meta: (result._meta ?? {}) as Json,
    };
  };
  return {
    client,
    call,
    async must(tool, input) {
      const said = await call(tool, input);
      if (said.isError) throw new Error(`${tool} said: ${said.text}`);
      return said.is;
    },
    async [Symbol.asyncDispose]() {
      await client.close();
      await server.close();
    },
  };
}

/** A control that does what a test says. */
export function scripted(call: Control["call"]): Control {
  return { call, offers: createToolGate().offers };
}
