// @module-tag buildah
// @module-tag qemu
// @module-tag bundles

// Attacks over real stdio: each is refused with a clear error, leaves no record, and the server answers the
// next request.

import { type Id, newId } from "@formation-mcp/contract";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RawServer, type Reply } from "../support/raw.ts";
import { type Structured, temporaryState } from "../support/server.ts";
import { openKept } from "../support/shared.ts";
import { type Schema, wrongInputs } from "../support/wrong-inputs.ts";

const BUILD = { from: "busybox", name: "mine", run: ["echo hello"], entrypoint: ["sleep", "1000"] };
const RESULT_BYTES = 20_000;

let state: ReturnType<typeof temporaryState>;
let server: RawServer;

beforeAll(async () => {
  state = temporaryState();
  server = await RawServer.start({ stateDir: state.dir, args: ["--allow-dir", state.dir] });
});
afterAll(async () => {
  await server?.close();
  await state.close();
});

function expectRefused(reply: Reply): void {
  expect(reply.isError || reply.error !== null, reply.text).toBe(true);
  expect(reply.text.length, "a refusal says why").toBeGreaterThan(10);
  expect(Buffer.byteLength(reply.text)).toBeLessThan(RESULT_BYTES);
  expect(reply.text).not.toMatch(/inside the server|Maximum call stack|TypeError|\bat .*\.mjs/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  expect(reply.text).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
}

/** It answers, and standard output stays clean. */
async function expectAlive(): Promise<void> {
  expect((await server.call("build_list", {})).structured).toHaveProperty("builds");
  expect(server.impure).toEqual([]);
  expect(server.child.exitCode).toBeNull();
}

async function expectNothingRecorded(): Promise<void> {
  expect((await server.call("operation_list", {})).structured["operations"]).toEqual([]);
  expect((await server.call("build_list", {})).structured["builds"]).toEqual([]);
  expect((await server.call("vm_list", {})).structured["instances"]).toEqual([]);
}

describe("A malformed message is answered, and the next one is served:", () => {
  const call = (input: string, id = 1) =>
    `{"jsonrpc":"2.0","id":${id},"method":"tools/call","params":{"name":"build_list","arguments":${input}}}\n`;
  const deep = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`;
  const lines: [string, string | Uint8Array, number | string | null][] = [
    ["a line of 8 MiB", call(`{"name":"${"x".repeat(8 * 1024 * 1024)}"}`, 701), 701],
    ["a line of 40 MiB without an id", `${"x".repeat(40 * 1024 * 1024)}\n`, null],
    ["half a line", '{"jsonrpc":"2.0","id":702,"method":"tools/call","par\n', null],
    ["bytes that are no UTF-8", Buffer.from(call('{"name":"\xc3\x28\xff"}', 703), "latin1"), null],
    ["NUL bytes", "\0\0\0\0\n", null],
    ["a batch", `[${call("{}", 704).trim()},${call("{}", 705).trim()}]\n`, null],
    ["an empty batch", "[]\n", null],
    ["a bare string", '"tools/list"\n', null],
    ["brackets 100,000 deep", `${deep(100_000)}\n`, null],
    ["arguments 100,000 deep", call(`{"name":${deep(100_000)}}`, 706), 706],
    ["an unknown method", '{"jsonrpc":"2.0","id":707,"method":"tools/exec","params":{}}\n', 707],
    ["a method named as an object's own", '{"jsonrpc":"2.0","id":708,"method":"__proto__"}\n', 708],
    ["no parameters", '{"jsonrpc":"2.0","id":709,"method":"tools/call"}\n', 709],
    ["parameters that are a list", '{"jsonrpc":"2.0","id":710,"method":"tools/call","params":[1]}\n', 710],
    [
      "a tool's name that is a number",
      '{"jsonrpc":"2.0","id":711,"method":"tools/call","params":{"name":1}}\n',
      711,
    ],
    ["arguments that are a list", call("[]", 712), 712],
    ["arguments that are a text", call('"{}"', 713), 713],
    ["arguments that are null", call("null", 714), 714],
    ["another version", '{"jsonrpc":"1.0","id":715,"method":"ping"}\n', 715],
    ["an id that is an object", '{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}\n', null],
    [
      "a progress token that is an object",
      '{"jsonrpc":"2.0","id":716,"method":"tools/call","params":{"name":"build_list","_meta":{"progressToken":{}}}}\n',
      716,
    ],
  ];
  test.each(lines)("%s", async (_, bytes, id) => {
    expectRefused(await server.exchange(bytes, id));
    await expectAlive();
  });

  test("a tool that there is not", async () => {
    for (const name of ["__proto__", "constructor", "", "vm.list", "x".repeat(10_000), "\u001b[2J\u202e"]) {
      expectRefused(await server.call(name, {}));
    }
    await expectAlive();
  });

  test("an answer that nobody asked for, with secrets in it, is not repeated in the log", async () => {
    server.write('{"jsonrpc":"2.0","id":99,"result":{"token":"canary-in-result"}}\n');
    server.write('{"jsonrpc":"2.0","id":98,"canary-in-line":1}\n{"canary-in-half\n');
    await expectAlive();
    expect(server.stderr).not.toContain("canary");
  });
});

test("every field of every tool refuses every kind of value that it does not take", async () => {
  const { structured } = await server.request("tools/list", {});
  const tools = structured["tools"] as { name: string; inputSchema: Schema }[];
  expect(tools).toHaveLength(13);
  const tried = tools.flatMap(({ name, inputSchema }) =>
    wrongInputs(inputSchema).map((wrong) => ({ name, ...wrong })),
  );
  expect(tried.length).toBeGreaterThan(400);
  const taken: string[] = [];
  for (let at = 0; at < tried.length; at += 50) {
    await Promise.all(
      tried.slice(at, at + 50).map(async ({ name, what, json }) => {
        const reply = await server.call(name, json);
        if (!reply.isError && !reply.error) taken.push(`${name} took ${what}: ${reply.text.slice(0, 200)}`);
        else expectRefused(reply);
      }),
    );
  }
  expect(taken).toEqual([]);
  await expectAlive();
  await expectNothingRecorded();
});

test("names that look like options, paths, ids or code are only names", async () => {
  const names = [
    "-rf",
    "--help",
    "../..",
    "/etc/passwd",
    "a;reboot",
    "$(id)",
    "`id`",
    "a\nb",
    "a\0b",
    "A",
    "x".repeat(64),
    "vm_x",
    "%00",
    "*",
    "' OR 1=1 --",
    "\u202eabc",
    "..",
    ".",
  ];
  for (const name of names) {
    expectRefused(await server.call("pack_build", { formfile: { ...BUILD, name } }));
    expectRefused(await server.call("vm_create", { image: "busybox", instance_name: name }));
    expectRefused(await server.call("vm_create", { image: `${name} `, instance_name: "ok" }));
    expectRefused(await server.call("vm_status", { instance: name }));
    expectRefused(await server.call("vm_delete", { instance: name, confirm: name }));
    expectRefused(await server.call("build_get", { build_id: name }));
    expectRefused(await server.call("operation_cancel", { operation_id: name }));
    expectRefused(await server.call("operation_list", { target: name }));
  }
  await expectAlive();
  await expectNothingRecorded();
});

test("a cursor that was changed, or is of another list, is no cursor", async () => {
  const cursors = [
    "x",
    "bGQuMQ",
    Buffer.from("bld.-1").toString("base64url"),
    Buffer.from("op.5").toString("base64url"),
    Buffer.from("bld.1.1").toString("base64url"),
    Buffer.from("bld.99999999999999999999").toString("base64url"),
    "l1",
    "' OR 1=1",
    "x".repeat(500),
  ];
  for (const cursor of cursors) expectRefused(await server.call("build_list", { cursor }));
  for (const cursor of ["vm.1", "bld.1"])
    expectRefused(await server.call("operation_list", { cursor: Buffer.from(cursor).toString("base64url") }));
});

describe("Reserved keys are refused wherever keys are free:", () => {
  const keys = '{"__proto__":"x"}';
  test.each([
    ["pack_build", `{"formfile":{"from":"busybox","entrypoint":["true"],"env":${keys}}}`],
    ["pack_build", `{"formfile":{"from":"busybox","entrypoint":["true"],"metadata":${keys}}}`],
    ["pack_build", `{"formfile":{"from":"busybox","entrypoint":["true"],"__proto__":{"include":["."]}}}`],
    ["pack_build", `{"formfile":"{\\"from\\":\\"busybox\\",\\"env\\":{\\"__proto__\\":\\"x\\"}}"}`],
    ["pack_build", `{"formfile":"from: busybox\\nentrypoint: [\\"true\\"]\\nenv: {__proto__: x}"}`],
    [
      "pack_build",
      `{"formfile":{"from":"busybox","entrypoint":["true"],"include":["."]},"context_files":${keys}}`,
    ],
    ["vm_create", `{"image":"busybox","instance_name":"a","env":${keys}}`],
    ["vm_create", `{"image":"busybox","instance_name":"a","vm_config":{"metadata":${keys}}}`],
    [
      "vm_create",
      `{"image":"busybox","instance_name":"a","vm_config":{"network":{"host_ports":{"__proto__":1}}}}`,
    ],
    ["vm_list", `{"metadata":${keys}}`],
  ])("%s %s", async (tool, json) => {
    expectRefused(await server.call(tool, json));
    await expectNothingRecorded();
  });

  test("and a key such as constructor is only a key", async () => {
    const { structured } = await server.call("pack_build", {
      formfile: { ...BUILD, env: { constructor: "a", toString: "b" }, metadata: { hasOwnProperty: "c" } },
      dry_run: true,
    });
    expect(structured).toMatchObject({ state: "valid", formfile: { env: ["constructor", "toString"] } });
  });
});

test("200 calls at once are all answered", async () => {
  const names = ["build_list", "vm_list", "operation_list", "vm_status", "pack_build"];
  const inputs: Structured[] = [{}, {}, {}, { instance: "none" }, { formfile: BUILD, dry_run: true }];
  const replies = await Promise.all(
    Array.from({ length: 200 }, (_, n) => server.call(names[n % 5] ?? "", inputs[n % 5])),
  );
  expect(replies.filter((reply) => reply.error)).toEqual([]);
  expect(replies.filter((reply) => reply.isError)).toHaveLength(40);
  await expectAlive();
});

describe("With records of its own and of another owner,", () => {
  let build: string;
  const other = {} as { op: Id<"op">; bld: Id<"bld">; dep: Id<"dep">; vm: Id<"vm"> };

  beforeAll(async () => {
    const made = await server.call("pack_build", { formfile: BUILD, wait_seconds: 40, idempotency_key: "k" });
    build = String(made.structured["build_id"]);
    expect(made.structured).toMatchObject({ state: "ready" });
    const { store } = await openKept(state.dir);
    try {
      const mine = await store.build(null, build as Id<"bld">);
      Object.assign(other, { op: newId("op"), bld: newId("bld"), dep: newId("dep"), vm: newId("vm") });
      const config = {
        resources: { vcpus: 1, memory_mb: 64, disk_gb: 1 },
        metadata: { team: "theirs" },
        host_ports: {},
        network: { join_formnet: false, external_networks: [] },
      };
      const owner = "local:99999";
      // No worker can take it: it waits for a node that does not exist.
      const node_id = newId("node");
      await store.submit({
        operation: {
          id: other.op,
          owner,
          tool: "vm_create",
          subject: "pack.ship",
          input: { kind: "ship", deployment_id: other.dep, instance_id: other.vm, build_id: other.bld },
          target_id: other.vm,
          node_id,
          deadline_at: Date.now() + 3_600_000,
        },
        build: {
          ...mine,
          id: other.bld,
          owner,
          name: "theirs",
          state: "queued",
          image: null,
          operation_id: other.op,
          node_id: null,
          ended_at: null,
        },
        deployment: {
          id: other.dep,
          owner,
          build_id: other.bld,
          instance_id: other.vm,
          instance_name: "theirs",
          state: "queued",
          config,
          replace: false,
          machine_id: null,
          error: null,
          operation_id: other.op,
          ended_at: null,
        },
        instance: {
          id: other.vm,
          owner,
          name: "theirs",
          desired: "running",
          state: "creating",
          node_id: null,
          deployment_id: null,
          machine_id: null,
          build_id: other.bld,
          config,
          warnings: [],
          observed: null,
          error: null,
        },
      });
    } finally {
      await store.close();
    }
  });

  test("nothing of another owner can be seen, changed or told from what is not there", async () => {
    const tries: [string, Structured][] = [
      ...[other.op, other.bld, other.dep, other.vm].map((id): [string, Structured] => [
        "operation_get",
        { id, wait_seconds: 0 },
      ]),
      ["operation_cancel", { operation_id: other.op }],
      ["build_get", { build_id: other.bld }],
      ["pack_ship", { build_id: other.bld, instance_name: "stolen", wait_seconds: 0 }],
      ...[other.vm, "theirs"].flatMap((instance): [string, Structured][] => [
        ["vm_status", { instance }],
        ["vm_logs", { instance }],
        ["vm_control", { instance, action: "stop" }],
        ["vm_delete", { instance, confirm: "theirs" }],
      ]),
    ];
    const kinds = { op: "op", bld: "bld", dep: "dep", vm: "vm" } as const;
    for (const [tool, input] of tries) {
      const reply = await server.call(tool, input);
      expectRefused(reply);
      expect(reply.line, tool).toContain('"code":"not_found"');
      // The same error as for an unknown id.
      const fresh = JSON.stringify(input).replace(/(op|bld|dep|vm)_[0-9a-z]{36}/, (id) =>
        newId(kinds[id.split("_")[0] as keyof typeof kinds]),
      );
      const nobody = await server.call(
        tool,
        fresh.replace('"theirs"', input["instance"] === "theirs" ? '"nobody"' : '"theirs"'),
      );
      const plain = (text: string) => text.replace(/(op|bld|dep|vm)_[0-9a-z]{36}|theirs|nobody/g, "…");
      expect(plain(nobody.text)).toBe(plain(reply.text));
    }
    for (const [tool, input] of [
      ["vm_list", {}],
      ["vm_list", { metadata: { team: "theirs" } }],
      ["build_list", { name: "theirs" }],
      ["operation_list", { target: other.vm }],
      ["operation_list", { target: other.bld }],
    ] as const) {
      const { text } = await server.call(tool, input);
      expect(text).not.toMatch(/theirs|local:99999/);
      expect(text).not.toContain(other.op);
    }
  });

  test("a key is one request of one tool: anything else under it is refused, and it is no longer than a key", async () => {
    const again = await server.call("pack_build", { formfile: BUILD, idempotency_key: "k", wait_seconds: 0 });
    expect(again.structured["build_id"]).toBe(build);
    expectRefused(await server.call("pack_build", { formfile: { ...BUILD, run: [] }, idempotency_key: "k" }));
    expectRefused(await server.call("pack_build", { formfile: BUILD, no_cache: true, idempotency_key: "k" }));
    expectRefused(await server.call("pack_build", { formfile: BUILD, idempotency_key: "k".repeat(201) }));
    expectRefused(await server.call("pack_build", { formfile: BUILD, idempotency_key: "" }));
    // The same key for another tool is a separate key: the error is the missing build, not the key.
    const ship = await server.call("pack_ship", { build_id: other.bld, idempotency_key: "k" });
    expect(ship.line).toContain('"code":"not_found"');
    expect((await server.call("build_list", {})).structured["builds"]).toHaveLength(1);
  });
});

test("it ends cleanly when the client goes, and never wrote a line that is no message", async () => {
  expect(await server.close()).toBe(0);
  expect(server.impure).toEqual([]);
});
