import { generateKey, keyId, signMessage } from "@formation-mcp/auth/keys";
import { freePort } from "@formation-mcp/os/testing/free-port";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AncestorClient, AncestorError } from "./ancestor-client.ts";
import { EVERYTHING, openWorld, PUBLIC_URL, type World } from "./world.ts";

let world: World;

beforeAll(async () => {
  world = await openWorld();
  await world.work();
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

const client = () => new AncestorClient(PUBLIC_URL, world.fetch);

/** A client of the ancestor that is signed in with a key of its own. */
async function signedIn() {
  const key = generateKey("secp256k1");
  const address = keyId(key);
  await world.authority.admit({ id: address }, new Set(EVERYTHING));
  const { data } = await world.ask("GET", `/api/auth/challenge?address=${address}`);
  const message = String(data["message"]);
  const ancestor = client();
  const login = await ancestor.login(address, message, signMessage(key, message).signature);
  return { ancestor, address, login, message, key };
}

/** A formfile whose workload answers on a port that is free now. */
async function formfile(name: string, more: Record<string, unknown> = {}): Promise<string> {
  const port = await freePort();
  const program = `require("node:http").createServer((q, r) => r.end("hello")).listen(${port})`;
  return JSON.stringify({
    from: "busybox",
    name,
    entrypoint: [process.execPath, "-e", program],
    expose: [port],
    ...more,
  });
}

describe("a client of the ancestor, unmodified", () => {
  it("signs in with a challenge that this server issued, and validates its token", async () => {
    const { ancestor, address, login } = await signedIn();
    expect(login).toMatchObject({
      token: expect.stringMatching(/^ey/),
      user_id: address,
      expires_at: expect.any(Number),
      permissions: expect.arrayContaining(["vm:read"]),
    });
    expect(Number(login["expires_at"])).toBeGreaterThan(Date.now() / 1000);
    expect(await ancestor.validateToken()).toBe(true);
    expect(await client().validateToken()).toBe(false);
  });

  it("is told with 401 that any other message is none, also one of its own making or one used before", async () => {
    const { message, key, address } = await signedIn();
    const { signature } = signMessage(key, message);
    const own = "I want to authenticate with the MCP server at timestamp 1683721584";
    for (const [text, by] of [
      [message, signature],
      [own, signMessage(key, own).signature],
      [message.replace(address, keyId(generateKey("secp256k1"))), signature],
    ] as const) {
      await expect(client().login(address, text, by)).rejects.toMatchObject({
        status: 401,
        response: { status: "error", message: expect.any(String), code: "unauthenticated", data: null },
      });
    }
  });

  it("lists tools in the ancestor's form, its own names among them, and filters by category", async () => {
    const { ancestor } = await signedIn();
    const tools = await ancestor.listTools();
    const names = tools.map(({ name }) => name);
    for (const name of [
      "form_pack_build",
      "form_pack_ship",
      "vm.status",
      "vm.control",
      "vm.create",
      "vm.list",
      "vm.delete",
    ]) {
      expect(names).toContain(name);
    }
    for (const tool of tools) {
      expect(tool).toMatchObject({
        description: expect.any(String),
        version: "1.2.3",
        return_type: expect.any(String),
        tags: expect.any(Array),
        is_long_running: expect.any(Boolean),
      });
      for (const parameter of tool["parameters"] as Record<string, unknown>[]) {
        expect(parameter).toMatchObject({
          name: expect.any(String),
          description: expect.any(String),
          required: expect.any(Boolean),
          parameter_type: expect.any(String),
        });
      }
    }
    const build = tools.find(({ name }) => name === "form_pack_build");
    expect(build).toMatchObject({ is_long_running: true, alias_of: "pack_build" });
    const packs = await ancestor.listTools("pack");
    expect(packs.length).toBeGreaterThan(0);
    expect(packs.every(({ tags }) => (tags as string[]).includes("pack"))).toBe(true);
    expect(await ancestor.listTools("no such thing")).toEqual([]);
  });

  it("builds, ships and follows both by polling, and manages the VM by its old names", async () => {
    const { ancestor } = await signedIn();
    const build = await ancestor.executeTool("form_pack_build", {
      formfile_content: await formfile("old-story", { include: ["hello.txt"] }),
      context_files: { "hello.txt": "hello" },
      build_options: { cache: false, timeout_seconds: 600 },
    });
    expect(build).toMatchObject({
      build_id: expect.stringMatching(/^bld_/),
      operation_id: expect.stringMatching(/^op_/),
      status: "accepted",
      warnings: [expect.stringContaining("timeout_seconds")],
    });
    expect(await ancestor.waitForOperation(String(build["operation_id"]))).toMatchObject({
      build_id: build["build_id"],
      status: "succeeded",
    });

    const ship = await ancestor.executeTool("form_pack_ship", {
      build_id: build["build_id"],
      instance_name: "old-story-vm",
      vm_config: { vcpus: 1, memory_mb: 128, network: { join_formnet: true }, metadata: { a: 1 } },
      target_node: null,
      deployment_options: { auto_restart: true, replica_count: 1, timeout_seconds: 300 },
    });
    expect(ship).toMatchObject({
      deployment_id: expect.stringMatching(/^dep_/),
      operation_id: expect.stringMatching(/^op_/),
      instance_id: expect.stringMatching(/^vm_/),
      status: "accepted",
      details: { status: "accepted" },
      warnings: expect.arrayContaining([
        expect.stringContaining("auto_restart"),
        expect.stringContaining("timeout_seconds"),
      ]),
    });
    const shipped = await ancestor.waitForOperation(String(ship["operation_id"]));
    expect(shipped).toMatchObject({
      deploy_id: ship["deployment_id"],
      instance_id: ship["instance_id"],
      status: "running",
      details: { status: "running", instance_id: ship["instance_id"] },
      endpoints: [{ protocol: "http", host: "127.0.0.1", port: expect.any(Number) }],
    });
    const [url = ""] = shipped["urls"] as string[];
    expect(await (await fetch(url)).text()).toBe("hello");

    const id = ship["instance_id"];
    expect(await ancestor.executeTool("vm.status", { id })).toMatchObject({
      id,
      status: "Started",
      success: true,
    });
    const listed = await ancestor.executeTool("vm.list", {});
    expect(listed).toMatchObject({ count: 1, vms: [{ id, name: "old-story-vm", status: "Started" }] });
    const stop = await ancestor.executeTool("vm.control", { id: "old-story-vm", operation: "stop" });
    await ancestor.waitForOperation(String(stop["operation_id"]));
    expect(await ancestor.executeTool("vm.status", { id })).toMatchObject({ status: "Stopped" });
    const gone = await ancestor.executeTool("vm.delete", { id, force: false });
    await ancestor.waitForOperation(String(gone["operation_id"]));
    expect(await ancestor.executeTool("vm.list", {})).toMatchObject({ count: 0, vms: [] });
    expect((await ancestor.operations()).map(({ status }) => status)).toEqual(Array(4).fill("completed"));
  });

  it("learns why an operation failed", async () => {
    const { ancestor } = await signedIn();
    const build = await ancestor.executeTool("form_pack_build", {
      formfile_content: JSON.stringify({
        from: "busybox",
        name: "broken",
        run: ["exit 3"],
        entrypoint: "true",
      }),
    });
    await expect(ancestor.waitForOperation(String(build["operation_id"]))).rejects.toThrow(/failed.*exit/is);
    const [listed] = await ancestor.operations();
    expect(listed).toMatchObject({ status: "failed", result: null, error: expect.any(String) });
  });

  it("gets a VM of another name when it ships a second time without one, as it always did", async () => {
    const { ancestor } = await signedIn();
    const build = await ancestor.executeTool("form_pack_build", {
      formfile_content: await formfile("again"),
    });
    await ancestor.waitForOperation(String(build["operation_id"]));
    const first = await ancestor.executeTool("form_pack_ship", { build_id: build["build_id"] });
    await ancestor.waitForOperation(String(first["operation_id"]));
    const second = await ancestor.executeTool("form_pack_ship", { build_id: build["build_id"] });
    expect(first["instance_name"]).toBe("again");
    expect(second["instance_name"]).toMatch(/^again-[0-9a-f]{6}$/);
    expect(second["warnings"]).toContainEqual(expect.stringContaining("again is in use"));
    await expect(
      ancestor.executeTool("form_pack_ship", { build_id: build["build_id"], instance_name: "again" }),
    ).rejects.toMatchObject({ status: 409 });
  });

  it("is refused in its own error form: 400, 404, 401, never another success", async () => {
    const { ancestor } = await signedIn();
    const refusals: [() => Promise<unknown>, number, string][] = [
      [() => ancestor.executeTool("no.such.tool", {}), 404, "not_found"],
      [() => ancestor.executeTool("form_pack_build", {}), 400, "invalid"],
      [() => ancestor.executeTool("form_pack_build", { formfile_content: "{" }), 400, "invalid"],
      [
        () =>
          ancestor.executeTool("form_pack_build", { formfile_content: "x", formfile_path: "/etc/passwd" }),
        400,
        "invalid",
      ],
      [
        () => ancestor.executeTool("form_pack_ship", { build_id: "550e8400-e29b-41d4-a716-446655440000" }),
        400,
        "invalid",
      ],
      [
        () =>
          ancestor.executeTool("form_pack_ship", { build_id: "x", deployment_options: { replica_count: 2 } }),
        400,
        "invalid",
      ],
      [() => ancestor.executeTool("vm.status", { id: "nobody" }), 404, "not_found"],
      [() => ancestor.executeTool("vm.control", { id: "nobody", operation: "explode" }), 400, "invalid"],
      [() => ancestor.executeTool("vm.list", { all_users: true }), 403, "forbidden"],
      [() => ancestor.operation("550e8400-e29b-41d4-a716-446655440000"), 404, "not_found"],
      [() => ancestor.operations("0x0000000000000000000000000000000000000001"), 403, "forbidden"],
      [() => client().executeTool("vm.list", {}), 401, "unauthenticated"],
      [() => client().operations(), 401, "unauthenticated"],
    ];
    for (const [call, status, code] of refusals) {
      const error = await call().then(
        () => new Error("it went well"),
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(AncestorError);
      expect(error).toMatchObject({
        status,
        response: { status: "error", data: null, message: expect.any(String), error: { code } },
      });
    }
  });
});
