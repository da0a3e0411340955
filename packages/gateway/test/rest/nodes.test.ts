import { newId } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { EVERYTHING, type Json, openWorld } from "./world.ts";

it("who keeps the instances of a node is told that they stay, and who moves them that disks do not", async () => {
  await using world = await openWorld();
  const admin = await world.someone(["admin"]);
  const drain = (how: string, instances: number) => {
    world.deps.nodes.drain = async () => ({ instances }) as never;
    return world.ask("POST", "/api/nodes/one/drain", { token: admin.token, json: { instances: how } });
  };
  expect((await drain("keep", 2)).body["message"]).toMatch(/stay there.*"move"/);
  expect((await drain("keep", 0)).body["message"]).toBeNull();
  expect((await drain("move", 2)).body["message"]).toMatch(/Disks do not travel/);
  expect((await drain("stop", 2)).body["message"]).toBeNull();
});

it("an admin sees nodes, gives them nothing new, empties and removes them; every change is in the audit log", async () => {
  await using world = await openWorld();
  const admin = await world.someone(["admin"]);
  const id = newId("node");
  await world.store.registerNode({
    id,
    name: "one",
    labels: { gpu: "yes" },
    capacity: { vcpus: 4, memory_mb: 4096, disk_gb: 50 },
    engine: { builder: "fake 1", hypervisor: "fake 1", accelerator: "kvm", profile: "root" },
    pid: 1,
    program: "1.0.0",
    draining: false,
  });
  const ask = (method: string, path: string, json?: unknown) =>
    world.ask(method, path, { token: admin.token, ...(json === undefined ? {} : { json }) });

  const listed = await ask("GET", "/api/nodes");
  expect(listed.data).toMatchObject({
    nodes: [{ node_id: id, name: "one", state: "ready", labels: { gpu: "yes" }, accelerator: "kvm" }],
    cursor: null,
  });
  expect((await ask("GET", `/api/nodes/${id}`)).data).toMatchObject({ name: "one", instances: 0 });
  expect((await ask("POST", "/api/nodes/one/cordon")).data).toMatchObject({ state: "cordoned" });
  expect((await ask("POST", "/api/nodes/one/uncordon", {})).data).toMatchObject({ state: "ready" });
  const drained = await ask("POST", "/api/nodes/one/drain", { instances: "move" });
  expect(drained.data).toMatchObject({ state: "drained", drain: "move" });
  expect(drained.body["message"]).toMatch(/Disks do not travel/);
  expect((await ask("POST", "/api/nodes/one/drain")).data).toMatchObject({ drain: "keep" });
  expect((await ask("POST", "/api/nodes/one/drain", { instances: "all" })).status).toBe(400);
  expect((await ask("DELETE", "/api/nodes/one?force=perhaps")).status).toBe(400);
  expect((await ask("DELETE", "/api/nodes/two")).status).toBe(404);
  const removed = await ask("DELETE", "/api/nodes/one?force=true");
  expect(removed.data).toEqual({ removed: true, instances: 0, operations: 0 });
  expect((await ask("GET", "/api/nodes/one")).status).toBe(404);

  const lines = (await ask("GET", "/api/audit?limit=100")).data["lines"] as Json[];
  const told = lines.filter(({ target }) => target === "one" || target === "two");
  for (const [action, outcome] of [
    ["POST /api/nodes/{id}/cordon", "ok"],
    ["POST /api/nodes/{id}/drain", "invalid"],
    ["DELETE /api/nodes/{id}", "begun"],
    ["DELETE /api/nodes/{id}", "not_found"],
    ["DELETE /api/nodes/{id}", "ok"],
  ]) {
    expect(told).toContainEqual(expect.objectContaining({ action, outcome, owner: admin.owner }));
  }

  const alice = await world.someone(EVERYTHING);
  for (const [method, path] of [
    ["GET", "/api/nodes"],
    ["POST", "/api/nodes/one/drain"],
    ["DELETE", "/api/nodes/one"],
  ] as const) {
    expect((await world.ask(method, path, { token: alice.token })).status).toBe(403);
  }
});
