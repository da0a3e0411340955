import { readdir, readFile, writeFile } from "node:fs/promises";
import { formfileSchema } from "@formation-mcp/formfile";
import { findTool, TOOLS, toolJsonSchemas } from "@formation-mcp/tools";
import { expect, test } from "vitest";
import { z } from "zod";

const SNAPSHOTS = new URL("./snapshots/", import.meta.url);
/** Set to 1 to write the snapshots anew: the change is then reviewed like any other. */
const UPDATE = process.env["UPDATE_TOOL_SNAPSHOTS"] === "1";

test.each(TOOLS.map((tool) => [tool.name, tool] as const))(
  "%s is as its snapshot tells it",
  async (name, tool) => {
    const { input, output } = toolJsonSchemas(tool);
    const { title, description, scope, annotations } = tool;
    const text = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
    const now = text({ name, title, description, scope, annotations, input, output });
    const file = new URL(`${name}.json`, SNAPSHOTS);
    if (UPDATE) await writeFile(file, now);
    const kept = text(JSON.parse(await readFile(file, "utf8")));
    expect(now, "run with UPDATE_TOOL_SNAPSHOTS=1 if the change is meant").toBe(kept);
  },
);

test("there is a snapshot of every tool and of nothing else", async () => {
  const files = await readdir(SNAPSHOTS);
  expect(files.sort()).toEqual(TOOLS.map(({ name }) => `${name}.json`).sort());
});

test("the formfile that hosts are shown has the keys of the language, and its kinds of value", () => {
  type Schema = { type?: string; required?: string[]; properties?: Record<string, Schema>; anyOf?: Schema[] };
  const kinds = ({ properties = {}, required }: Schema): unknown => [
    required,
    Object.entries(properties)
      .map(([key, { type, properties: inner }]) => [key, type, Object.keys(inner ?? {}).sort()])
      .sort(),
  ];
  const shown = toolJsonSchemas(packBuild()).input["properties"] as { formfile: { anyOf: Schema[] } };
  expect(kinds(shown.formfile.anyOf[0] ?? {})).toEqual(kinds(z.toJSONSchema(formfileSchema) as Schema));
});

function packBuild() {
  const tool = findTool("pack_build");
  if (!tool) throw new Error("there is no pack_build");
  return tool;
}

test("names are unique, short and plain enough for every host", () => {
  expect(new Set(TOOLS.map(({ name }) => name)).size).toBe(14);
  for (const { name } of TOOLS) expect(name).toMatch(/^[a-z]+_[a-z]+$/);
});

test("annotations agree with scopes: what reads needs a read scope and destroys nothing", () => {
  for (const { name, scope, annotations } of TOOLS) {
    if (scope !== "admin") expect([name, annotations.readOnlyHint]).toEqual([name, scope.endsWith(":read")]);
    if (annotations.readOnlyHint) {
      expect([name, annotations.destructiveHint]).toEqual([name, false]);
      expect([name, annotations.idempotentHint]).toEqual([name, true]);
    }
  }
  const destructive = TOOLS.filter((tool) => tool.annotations.destructiveHint).map(({ name }) => name);
  expect(destructive).toEqual(["pack_ship", "vm_control", "vm_delete", "operation_cancel"]);
});

test("every tool that starts something long can be waited for and takes an idempotency key", () => {
  for (const name of ["pack_build", "pack_ship", "vm_create", "vm_control", "vm_delete"]) {
    const fields = Object.keys(findTool(name)?.input.shape ?? {});
    expect(fields, name).toEqual(expect.arrayContaining(["wait_seconds", "idempotency_key"]));
  }
});

test("an unknown field is refused, and defaults are filled in", () => {
  const tool = findTool("operation_get");
  expect(tool?.input.safeParse({ id: "op_1", wait: 1 }).success).toBe(false);
  expect(tool?.input.parse({ id: "op_1" })).toEqual({ id: "op_1", wait_seconds: 20 });
  expect(findTool("vm_explode")).toBeUndefined();
});
