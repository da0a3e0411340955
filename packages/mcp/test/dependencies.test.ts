import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { expect, test } from "vitest";

/** Every package that an install of `name` brings along, as far as our own manifests say. */
function installedWith(name: string, from: string, seen = new Set<string>()): Set<string> {
  if (seen.has(name)) return seen;
  seen.add(name);
  if (!name.startsWith("@formation-mcp/")) return seen;
  const path = createRequire(from).resolve(`${name}/package.json`);
  const { dependencies = {} } = JSON.parse(readFileSync(path, "utf8")) as {
    dependencies?: Record<string, string>;
  };
  for (const dependency of Object.keys(dependencies)) installedWith(dependency, path, seen);
  return seen;
}

test("an install brings the MCP SDK, and nothing that only an HTTP or OAuth server needs", () => {
  const installed = installedWith("@formation-mcp/mcp", import.meta.filename);
  expect(installed).toContain("@modelcontextprotocol/server");
  for (const name of [
    "hono",
    "@hono/node-server",
    "oidc-provider",
    "prom-client",
    "@formation-mcp/gateway",
  ]) {
    expect(installed).not.toContain(name);
  }
});
