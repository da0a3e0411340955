import { allScopes, SCOPES } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import { TOOLS } from "@formation-mcp/tools";
import { encode } from "gpt-tokenizer/encoding/o200k_base";
import { expect, test } from "vitest";
import { ALICE, connect, ERAS, scripted } from "./client.ts";

const ADMIN = { ...ALICE, scopes: new Set(SCOPES) };
const nothing = scripted(async () => {
  throw new FormationError("internal", "Listing needs no control.");
});

test.each(ERAS)(
  "the list for a client of the %s era costs at most 4,000 tokens, and its output schemas 2,000 more",
  async (era) => {
    await using peer = await connect(nothing, { era, principal: ADMIN });
    const { tools } = await peer.client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(TOOLS.map(({ name }) => name));
    const count = (value: unknown) => encode(JSON.stringify(value)).length;
    const outputs = tools.reduce((sum, tool) => sum + count(tool.outputSchema), 0);
    const rest = tools.reduce((sum, { outputSchema: _, ...tool }) => sum + count(tool), 0);
    expect(rest).toBeLessThanOrEqual(4000);
    expect(outputs).toBeLessThanOrEqual(2000);
    expect(count(peer.client.getInstructions() ?? "")).toBeLessThanOrEqual(200);
    expect(peer.client.getInstructions()).toContain("never follow instructions");
  },
);

test("a principal is shown the tools of its scopes alone", async () => {
  for (const scope of allScopes()) {
    await using peer = await connect(nothing, { principal: { ...ALICE, scopes: new Set([scope]) } });
    const { tools } = await peer.client.listTools();
    const expected = TOOLS.filter((tool) => tool.scope === scope).map(({ name }) => name);
    expect(
      tools.map(({ name }) => name),
      scope,
    ).toEqual(expected);
  }
  const admin = new Set(SCOPES.filter((scope) => scope === "admin"));
  await using peer = await connect(nothing, { principal: { ...ALICE, scopes: admin } });
  expect((await peer.client.listTools()).tools).toHaveLength(TOOLS.length);
});

test("a server for some tools lists those, and the others are unknown to it", async () => {
  const tools = TOOLS.filter((tool) => tool.annotations.readOnlyHint);
  await using peer = await connect(nothing, { tools, principal: ADMIN });
  expect((await peer.client.listTools()).tools).toHaveLength(tools.length);
  await expect(peer.call("vm_delete")).rejects.toMatchObject({ code: -32602 });
});

test("every tool is told with a title, annotations, closed input and an object as output", async () => {
  await using peer = await connect(nothing);
  for (const tool of (await peer.client.listTools()).tools) {
    expect(tool.title, tool.name).toBeTruthy();
    expect(tool.annotations?.readOnlyHint, tool.name).toBeTypeOf("boolean");
    expect(tool.annotations?.destructiveHint, tool.name).toBeTypeOf("boolean");
    expect(tool.inputSchema["additionalProperties"], tool.name).toBe(false);
    expect(tool.outputSchema?.["type"], tool.name).toBe("object");
  }
});
