import { FormationError } from "@formation-mcp/contract";
import type { CallHooks } from "@formation-mcp/control";
import { TOOLS } from "@formation-mcp/tools";
import { expect, test } from "vitest";
import { ALICE, connect, ERAS, type Json, scripted } from "./client.ts";
import { openHouse } from "./house.ts";

const FORMFILE = { from: "busybox", name: "hello", entrypoint: ["httpd", "-f"], expose: [8080] };
const LOGS = { instance_id: "vm_1", name: "web", lines: 1, cursor: "l1", more: false, next: "Nothing." };

test("a call passes on the principal, the tool and the input, unchanged", async () => {
  const seen: unknown[] = [];
  const control = scripted(async (principal, tool, input) => {
    seen.push([principal, tool, input]);
    return { builds: [], cursor: null };
  });
  await using peer = await connect(control);
  await peer.call("build_list", { anything: [1, { a: null }] });
  await peer.call("build_list");
  expect(seen).toEqual([
    [ALICE, "build_list", { anything: [1, { a: null }] }],
    [ALICE, "build_list", {}],
  ]);
});

test.each(ERAS)(
  "the text of a result is its structured content, and a log has a block of its own (%s)",
  async (era) => {
    const log = "<untrusted-1> …\nline one\n</untrusted-1>";
    const control = scripted(async (_, tool) =>
      tool === "vm_logs" ? { ...LOGS, log } : { builds: [], cursor: null },
    );
    await using peer = await connect(control, { era });
    const list = await peer.call("build_list");
    expect(JSON.parse(list.text)).toEqual(list.is);
    const logs = await peer.call("vm_logs", { instance: "web" });
    expect(logs.is).toEqual({ ...LOGS, log });
    expect(logs.blocks).toEqual([JSON.stringify({ ...LOGS, log: "(in the next block)" }), log]);
  },
);

test("an unknown tool is a protocol error", async () => {
  await using peer = await connect(scripted(async () => ({})));
  await expect(peer.call("vm_explode")).rejects.toMatchObject({ code: -32602 });
});

test.each(ERAS)(
  "an error is a result that tells what, where, how it ended and what to do (%s)",
  async (era) => {
    const control = scripted(async () => {
      throw new FormationError("invalid", "The command ended with 2.", {
        remedy: "Correct run[0].",
        field: "formfile",
        step: "run 1/1",
        exit_code: 2,
        log_tail: ["<untrusted-1> …", "boom", "</untrusted-1>"],
      });
    });
    await using peer = await connect(control, { era });
    await peer.client.listTools(); // the client does not hold an error against the output schema
    const said = await peer.call("pack_build");
    expect(said).toEqual({
      isError: true,
      is: {},
      blocks: [
        "The command ended with 2.\nFailing step: run 1/1, exit code 2.\nField: formfile.\nWhat to do: Correct run[0].",
        "<untrusted-1> …\nboom\n</untrusted-1>",
      ],
      text: expect.any(String),
      meta: expect.objectContaining({
        "formation-mcp/error": {
          code: "invalid",
          remedy: "Correct run[0].",
          field: "formfile",
          step: "run 1/1",
          exit_code: 2,
        },
      }),
    });
  },
);

test("what breaks inside is told without a word about how", async () => {
  const control = scripted(async () => {
    throw new TypeError("SELECT secret FROM /var/lib/store.db");
  });
  await using peer = await connect(control);
  const said = await peer.call("build_list");
  expect(said.isError).toBe(true);
  expect(said.meta["formation-mcp/error"]).toMatchObject({ code: "internal" });
  expect(JSON.stringify(said)).not.toMatch(/SELECT|store\.db|\.ts:/);
});

test.each(ERAS)("a client that asks for progress gets numbers that only rise (%s)", async (era) => {
  const control = scripted(async (_principal, _tool, _input, hooks) => {
    const steps = [null, 0.5, 0.5, null, 1, 1, null].map((fraction, n) => ({ step: `step ${n}`, fraction }));
    for (const { step, fraction } of steps)
      hooks?.onProgress?.({ step, message: `Doing ${step}.`, fraction });
    return { builds: [], cursor: null };
  });
  await using peer = await connect(control, { era });
  const told: { progress: number; message?: string | undefined }[] = [];
  await peer.call("build_list", {}, { onprogress: (progress) => told.push(progress) });
  expect(told).toHaveLength(7);
  for (const [index, { progress }] of told.entries()) {
    expect(progress).toBeGreaterThan(told[index - 1]?.progress ?? 0);
    expect(progress).toBeLessThan(100);
  }
  expect(told[1]?.message).toBe("step 1: Doing step 1.");
});

test("a client that does not ask for progress gets none", async () => {
  let hooks: CallHooks | undefined;
  const control = scripted(async (_principal, _tool, _input, given) => {
    hooks = given;
    return { builds: [], cursor: null };
  });
  await using peer = await connect(control);
  await peer.call("build_list");
  expect(hooks?.onProgress).toBeUndefined();
});

test.each(ERAS)("a client that gives up aborts the waiting (%s)", async (era) => {
  const began = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<string>();
  const control = scripted(async (_principal, _tool, _input, hooks) => {
    hooks?.signal?.addEventListener("abort", () => ended.resolve("aborted"));
    began.resolve();
    await ended.promise;
    return { builds: [], cursor: null };
  });
  await using peer = await connect(control, { era });
  const caller = new AbortController();
  const waiting = peer.call("build_list", {}, { signal: caller.signal });
  await began.promise;
  caller.abort();
  await expect(waiting).rejects.toThrow();
  expect(await ended.promise).toBe("aborted");
});

test("each tool without its scope is an error that names the scope", async () => {
  await using house = await openHouse();
  for (const tool of TOOLS) {
    const scopes = new Set([...ALICE.scopes].filter((scope) => scope !== tool.scope));
    await using peer = await connect(house.control, { principal: { ...ALICE, scopes } });
    const said = await peer.call(tool.name);
    expect([tool.name, said.isError]).toEqual([tool.name, true]);
    expect(said.text).toContain(tool.scope);
  }
});

test("what a caller can correct names the field and the remedy", async () => {
  await using house = await openHouse();
  await using peer = await connect(house.control);
  const bad: [tool: string, input: Json, field: string][] = [
    ["pack_build", {}, "formfile"],
    ["pack_build", { formfile: "from: [" }, "formfile"],
    ["pack_build", { formfile: { ...FORMFILE, form: 1 } }, "formfile.form"],
    ["pack_build", { formfile: FORMFILE, contextfiles: {} }, "contextfiles"],
    ["pack_build", { formfile: { ...FORMFILE, include: ["a"] } }, "formfile.include[0]"],
    ["pack_build", { formfile: FORMFILE, context_files: { "../a": "" } }, 'context_files["../a"]'],
    ["pack_build", { formfile: FORMFILE, context_dir: "relative" }, "context_dir"],
    ["pack_build", { formfile: FORMFILE, wait_seconds: 60 }, "wait_seconds"],
    ["pack_build", { formfile: FORMFILE, wait_seconds: "20" }, "wait_seconds"],
    ["pack_build", { formfile: FORMFILE, idempotency_key: "" }, "idempotency_key"],
    ["pack_ship", { build_id: "hello" }, "build_id"],
    ["pack_ship", { build_id: `bld_${"0".repeat(36)}` }, "build_id"],
    ["pack_ship", { build_id: "x", instance_name: "UPPER" }, "instance_name"],
    ["pack_ship", { build_id: "x", vm_config: { vcpus: 65 } }, "vm_config.vcpus"],
    ["build_get", { build_id: "vm_1" }, "build_id"],
    ["build_list", { state: "done" }, "state"],
    ["build_list", { limit: 51 }, "limit"],
    ["build_list", { cursor: "x" }, "cursor"],
    ["vm_create", { image: "UPPER CASE", instance_name: "a" }, "image"],
    ["vm_create", { image: "busybox" }, "instance_name"],
    ["vm_list", { cursor: "x" }, "cursor"],
    ["vm_status", { instance: "nobody" }, "instance"],
    ["vm_control", { instance: "nobody", action: "stop" }, "instance"],
    ["vm_control", { instance: "nobody", action: "explode" }, "action"],
    ["vm_delete", { instance: "nobody" }, "confirm"],
    ["vm_logs", { instance: "nobody" }, "instance"],
    ["vm_logs", { instance: "nobody", streams: ["stdin"] }, "streams[0]"],
    ["operation_get", { id: "12" }, "id"],
    ["operation_list", { target: "12" }, "target"],
    ["operation_list", { cursor: "x" }, "cursor"],
    ["operation_cancel", { operation_id: "vm_1" }, "operation_id"],
  ];
  for (const [tool, input, field] of bad) {
    const what = `${tool} ${JSON.stringify(input)}`;
    const said = await peer.call(tool, input);
    expect(said.isError, what).toBe(true);
    expect(said.text, what).toContain(field);
    expect(said.text, what).toContain("What to do: ");
    expect(said.meta["formation-mcp/error"], what).toMatchObject({ code: expect.any(String), field });
  }
});
