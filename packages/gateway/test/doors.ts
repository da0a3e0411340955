// A real MCP client at the door of a world, over linked transports, in either era.

import type { Principal } from "@formation-mcp/auth";
import type { ControlOptions } from "@formation-mcp/control";
import { createMcpServerFactory, type McpServerFactoryOptions } from "@formation-mcp/gateway/mcp";
import { Client } from "@modelcontextprotocol/client";
import { InMemoryTransport } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { ALICE, type Json, openWorld, type World } from "../../control/test/world.ts";

export { ALICE, BOB, type Json, until } from "../../control/test/world.ts";

/** What a tool said, as a host sees it. */
export interface Said {
  isError: boolean;
  /** The structured content. */
  is: Json;
  /** The text blocks. */
  blocks: string[];
  text: string;
  meta: Json;
}

export interface Peer {
  client: Client;
  call(tool: string, input?: Json, options?: Parameters<Client["callTool"]>[1]): Promise<Said>;
  /** Calls and expects no error. */
  must(tool: string, input?: Json): Promise<Json>;
}

export interface Doors extends World {
  connect(
    principal?: Principal,
    options?: { era?: "modern" | "legacy" } & Partial<McpServerFactoryOptions>,
  ): Promise<Peer>;
}

export async function openDoors(options: Partial<ControlOptions> = {}): Promise<Doors> {
  const world = await openWorld(options);
  const closers: (() => Promise<void>)[] = [];
  return {
    ...world,
    async connect(principal = ALICE, { era = "modern", ...rest } = {}) {
      const [near, far] = InMemoryTransport.createLinkedPair();
      const factory = createMcpServerFactory({
        control: world.control,
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
      closers.push(async () => {
        await client.close();
        await server.close();
      });
      return peer(client);
    },
    async [Symbol.asyncDispose]() {
      for (const close of closers) await close();
      await world[Symbol.asyncDispose]();
    },
  };
}

function peer(client: Client): Peer {
  const call: Peer["call"] = async (name, input = {}, options) => {
    const result = await client.callTool({ name, arguments: input }, options);
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
  };
}
