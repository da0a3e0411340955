import { FormationError, newId } from "@formation-mcp/contract";
import { type Audit, type AuditEntry, openAudit } from "@formation-mcp/control";
import { TOOLS } from "@formation-mcp/tools";
import { expect, test } from "vitest";
import { HELLO, live } from "./formfiles.ts";
import { ALICE, BOB, openWorld, type World } from "./world.ts";

interface Told {
  audit: Audit;
  lines: (AuditEntry & { wait: boolean })[];
  fails: (event: AuditEntry) => boolean;
}

/** An audit log that keeps its lines in memory. */
function listening(): Told {
  const told: Told = {
    lines: [],
    fails: () => false,
    audit: {
      async record(event, { wait }) {
        if (told.fails(event)) throw new FormationError("unavailable", "The disk is full.");
        told.lines.push({ ...event, wait });
      },
      close: async () => {},
    },
  };
  return told;
}

const short = ({ lines }: Told) => lines.map(({ action, outcome, wait }) => [action, outcome, wait]);
const made = async (world: World) => (await world.store.operations({ owner: null, limit: 10 })).items.length;

test("a read is one line without wait, a change one line before and one after it, a refusal one line", async () => {
  const told = listening();
  await using world = await openWorld({ audit: told.audit });
  await world.call("vm_list");
  const { operation_id, instance_id } = await world.call("vm_create", {
    image: "busybox",
    instance_name: "box",
  });
  await world.refused("vm_status", { instance: "web" });
  await world.refused("vm_status", {}, { ...ALICE, scopes: new Set() });
  await world.refused("vm_list", { limit: 0 });
  await world.refused("nonsense\n; drop", { instance: "web" });
  expect(short(told)).toEqual([
    ["vm_list", "ok", false],
    ["vm_create", "begun", true],
    ["vm_create", "ok", true],
    ["vm_status", "not_found", true],
    ["vm_status", "forbidden", true],
    ["vm_list", "invalid", true],
    ["unknown tool", "not_found", true],
  ]);
  expect(told.lines.map(({ target }) => target)).toEqual([
    null,
    "box",
    instance_id,
    "web",
    null,
    null,
    "web",
  ]);
  expect(operation_id).toBeTruthy();
});

test("an audit line has the owner, address, token id and trace id, for every tool", async () => {
  const told = listening();
  await using world = await openWorld({ audit: told.audit });
  const caller = { ...ALICE, tokenId: "tok_7" };
  const hooks = { address: "192.0.2.7", traceId: "ab".repeat(16) };
  for (const { name } of TOOLS) await world.control.call(caller, name, {}, hooks).catch(() => {});
  expect(new Set(told.lines.map(({ action }) => action))).toEqual(new Set(TOOLS.map(({ name }) => name)));
  for (const line of told.lines)
    expect(line).toMatchObject({
      owner: "alice",
      credential: "tok_7",
      address: hooks.address,
      trace_id: hooks.traceId,
    });
});

test("the audit log holds no arguments, and no text of a caller that is not a name or id", async () => {
  const told = listening();
  await using world = await openWorld({ audit: told.audit });
  await live(world);
  const secret = "S3CRET text";
  const calls: [string, Record<string, unknown>][] = [
    ["pack_build", { formfile: { ...HELLO, env: { TOKEN: secret } }, idempotency_key: secret }],
    ["pack_build", { formfile: secret, context_files: { a: secret } }],
    ["vm_create", { image: "busybox", instance_name: "box", env: { TOKEN: secret }, entrypoint: secret }],
    ["vm_create", { image: secret, instance_name: secret }],
    ["vm_status", { instance: secret }],
    ["vm_logs", { instance: "web", grep: secret }],
    ["operation_get", { id: secret }],
    ["operation_cancel", { operation_id: secret }],
    ["vm_delete", { instance: "web", confirm: secret }],
    [secret, { [secret]: secret, instance: { secret } }],
  ];
  for (const [tool, input] of calls) await world.call(tool, input).catch(() => {});
  expect(told.lines.length).toBeGreaterThan(calls.length);
  expect(JSON.stringify(told.lines)).not.toContain("S3CRET");
});

test("a change that can't be recorded is not made, and a refusal that can't be recorded is still a refusal", async () => {
  const told = listening();
  await using world = await openWorld({ audit: told.audit });
  told.fails = () => true;
  const created = await world.refused("vm_create", { image: "busybox", instance_name: "box" });
  expect([created.code, created.message]).toEqual(["unavailable", "The disk is full."]);
  expect(await made(world)).toBe(0);
  expect((await world.refused("vm_status", { instance: newId("vm") }, BOB)).code).toBe("unavailable");
});

test("a change whose outcome can't be recorded is an error that says it may have been made, and how to look", async () => {
  const told = listening();
  await using world = await openWorld({ audit: told.audit });
  told.fails = ({ outcome }) => outcome === "ok";
  const error = await world.refused("vm_create", { image: "busybox", instance_name: "box" });
  expect(error.code).toBe("unavailable");
  expect(error.details.remedy).toMatch(/operation_list.*idempotency_key/);
  expect(await made(world)).toBe(1);
  expect(short(told)).toEqual([["vm_create", "begun", true]]);
});

test("the lines are in a real store before the caller has the answer", async () => {
  let audit: Audit | undefined;
  await using world = await openWorld(({ store }) => {
    audit = openAudit({ store: store.audit });
    return { audit };
  });
  await world.call("vm_create", { image: "busybox", instance_name: "box" });
  const { items } = await world.store.audit.page({ limit: 10 });
  expect(items.map(({ outcome }) => outcome)).toEqual(["ok", "begun"]);
  await audit?.close();
});
