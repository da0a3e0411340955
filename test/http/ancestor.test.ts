// @module-tag bundles

// A client of the ancestor, over a real socket: only 200 is success, operations are polled for data.status
// and data.result, and login sends {address, signed_message, signature}. It builds, ships, lists, stops and
// deletes.

import { generateKey, keyId } from "@formation-mcp/auth/keys";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Ground, openGround } from "../support/http/ground.ts";
import { ALL_SCOPES, admit, challenge, rest, restData, signed } from "../support/http/people.ts";
import type { Structured } from "../support/server.ts";

let ground: Ground;
beforeAll(async () => {
  ground = await openGround();
});
afterAll(() => ground?.close());

/** Polls an operation to its end as the ancestor's clients do, and returns its result. */
async function resultOf(token: string, { operation_id }: Structured): Promise<Structured> {
  const done = await waitFor(
    async () => {
      const data = await restData(ground.url, "GET", `/api/operations/${operation_id}`, { token });
      expect(["queued", "running", "completed", "failed", "cancelled"]).toContain(data["status"]);
      return ["completed", "failed", "cancelled"].includes(String(data["status"])) && data;
    },
    { timeoutMs: 60_000, everyMs: 100, what: `the end of ${operation_id}` },
  );
  expect(done["status"], JSON.stringify(done)).toBe("completed");
  return done["result"] as Structured;
}

test("a client of the ancestor works unmodified, from sign-in to delete", async () => {
  const key = generateKey("secp256k1");
  await admit(ground.url, ground.admin, key, ALL_SCOPES);
  const { address, signed_message, signature } = signed(key, await challenge(ground.url, keyId(key)));

  const own = await rest(ground.url, "POST", "/api/auth/login", {
    body: { ...signed(key, "I want to authenticate with the MCP server at timestamp 1683721584") },
  });
  ground.refused(own, 401);
  expect(own.json).toMatchObject({ status: "error", message: expect.any(String) });

  const login = await restData(ground.url, "POST", "/api/auth/login", {
    body: { address, signed_message, signature },
  });
  expect(login).toMatchObject({ user_id: keyId(key), permissions: ALL_SCOPES.split(" ") });
  expect(login["expires_at"]).toBeGreaterThan(Date.now() / 1000);
  const token = String(login["token"]);
  ground.secrets.add(token).add(String(login["refresh_token"]));
  await restData(ground.url, "POST", "/api/auth/validate", { body: { token } });

  const { tools } = await restData(ground.url, "GET", "/api/tools?category=pack", { token });
  expect((tools as Structured[]).map((tool) => tool["name"])).toContain("form_pack_build");
  const execute = (name: string, parameters: Structured) =>
    restData(ground.url, "POST", `/api/tools/${name}`, { token, body: { parameters, context: {} } });

  const port = 20_000 + Math.floor(Math.random() * 20_000);
  const formfile = {
    from: "busybox",
    name: "elder",
    run: ["echo of old > page.txt"],
    expose: [port],
    entrypoint: ["/bin/busybox", "httpd", "-f", "-p", String(port), "-h", "."],
    resources: { memory_mb: 64 },
  };
  const build = await execute("form_pack_build", { formfile_content: JSON.stringify(formfile) });
  expect(build).toMatchObject({ build_id: expect.stringMatching(/^bld_/) });
  await resultOf(token, build);
  const shipped = await execute("form_pack_ship", { build_id: build["build_id"] });
  const result = await resultOf(token, shipped);
  const id = String(shipped["instance_id"]);
  expect(JSON.stringify(result)).toContain(id);

  const { operations } = await restData(ground.url, "GET", "/api/operations", { token });
  expect((operations as Structured[]).map((each) => each["id"])).toContain(shipped["operation_id"]);
  const status = await execute("vm.status", { id });
  const [url = ""] = JSON.stringify(status).match(/http:\/\/127\.0\.0\.1:\d+/) ?? [];
  const page = await fetch(`${url}/page.txt`, { headers: { connection: "close" } });
  expect(await page.text()).toBe("of old\n");

  await resultOf(token, await execute("vm.control", { id, operation: "stop" }));
  await resultOf(token, await execute("vm.delete", { id }));
  expect(JSON.stringify(await execute("vm.list", {}))).not.toContain(id);
});
