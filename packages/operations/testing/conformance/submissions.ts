// Submissions: what one writes, what its idempotency key answers, and what is refused.

import { LIMITS } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { FAILURE, HOUR, OWNER, refused, SWEEP, type World } from "./world.ts";

/** What a submission writes, and what its idempotency key answers later. */
export function describeSubmissions(open: () => World): void {
  it("a submission is written with its records, and returned as it was submitted", async () => {
    const { store, build, clock } = open();
    const request = build();
    const { operation, replayed } = await store.submit(request);
    expect(replayed).toBe(false);
    expect(operation).toMatchObject({
      ...request.operation,
      state: "queued",
      attempt: 0,
      version: 1,
      send: 1,
    });
    expect(await store.operation(OWNER, operation.id)).toEqual(operation);
    expect(await store.build(OWNER, request.build.id)).toEqual({
      ...request.build,
      version: 1,
      created_at: clock.now(),
      updated_at: clock.now(),
    });
    expect(await store.operationFor(request.build.id)).toEqual(operation);
  });

  it("another owner's record is not found", async () => {
    const { store, build, ship, ready } = open();
    const request = build();
    await store.submit(request);
    await refused(store.operation("other", request.operation.id), "not_found");
    await refused(store.build("other", request.build.id), "not_found");
    await refused(store.requestCancel("other", request.operation.id), "not_found");
    await store.requestCancel(OWNER, request.operation.id);
    const theirs = await ready("other");
    await refused(store.submit(ship(theirs)), "not_found");
  });

  it("a key used again makes nothing and answers what it made, also after the operation expired", async () => {
    const { store, build, claim, lease, clock } = open();
    const first = { ...build(), idempotency: { key: "k", inputDigest: "a" } };
    const { operation } = await store.submit(first);
    const second = { ...build(), idempotency: { key: "k", inputDigest: "a" } };
    expect(await store.submit(second)).toEqual({ operation, replayed: true });
    await refused(store.build(OWNER, second.build.id), "not_found");
    await store.settle(lease((await claim()) ?? operation), { state: "failed", error: FAILURE });
    clock.pass(2 * HOUR);
    expect((await store.sweep(SWEEP)).removedOperations).toBe(1);
    await refused(store.operation(OWNER, operation.id), "not_found");
    expect(await store.submit(second)).toMatchObject({
      operation: { id: operation.id, state: "failed", error: FAILURE },
      replayed: true,
    });
    const { tool, owner } = operation;
    expect(await store.replay(owner, tool, first.idempotency)).toMatchObject({ id: operation.id });
  });

  it("a key belongs to its owner, its tool and its input, for a day", async () => {
    const { store, build, clock } = open();
    const idempotency = { key: "k", inputDigest: "a" };
    await store.submit({ ...build(), idempotency });
    await refused(store.submit({ ...build(), idempotency: { key: "k", inputDigest: "b" } }), "conflict");
    await refused(store.replay(OWNER, "pack_build", { key: "k", inputDigest: "b" }), "conflict");
    expect(await store.replay(OWNER, "pack_ship", idempotency)).toBeNull();
    expect(await store.replay("other", "pack_build", idempotency)).toBeNull();
    expect((await store.submit({ ...build({ owner: "other" }), idempotency })).replayed).toBe(false);
    clock.pass(LIMITS.idempotencyKeptMs);
    expect(await store.replay(OWNER, "pack_build", idempotency)).toBeNull();
    expect((await store.submit({ ...build(), idempotency })).replayed).toBe(false);
  });
}

/** What is written about an instance: its name, its desired state, what its node observed. */
export function describeInstanceWrites(open: () => World): void {
  it("a name is one instance's until that is deleted, and nothing of a refused request is written", async () => {
    const { store, ready, ship, live, claim, lease, remove } = open();
    const build = await ready();
    const vm = await live(build);
    const refusedRequest = ship(build);
    await refused(store.submit(refusedRequest), "conflict");
    await refused(store.operation(OWNER, refusedRequest.operation.id), "not_found");
    await refused(store.deployment(OWNER, refusedRequest.deployment.id), "not_found");
    expect(await store.instanceByName(OWNER, "web")).toMatchObject({ id: vm });
    const { version } = await store.instance(OWNER, vm);
    const { operation } = await store.submit(remove(vm, version));
    await claim();
    await store.settle(
      { ...lease(operation), attempt: 1 },
      { state: "completed" },
      { instances: [{ id: vm, patch: { state: "deleted" } }] },
    );
    expect(await store.instanceByName(OWNER, "web")).toBeNull();
    expect((await store.submit(refusedRequest)).replayed).toBe(false);
  });

  it("a change of the desired state names the version it read", async () => {
    const { store, ready, live, control } = open();
    const vm = await live(await ready());
    const { version } = await store.instance(OWNER, vm);
    const desire = { instance_id: vm, version, desired: "stopped" as const };
    await store.submit({ ...control(vm), desire });
    expect(await store.instance(OWNER, vm)).toMatchObject({ desired: "stopped", state: "running" });
    await refused(store.submit({ ...control(vm), desire }), "conflict");
  });

  it("a request about an instance that is deleted or never existed is refused", async () => {
    const { store, ready, control, ship, id } = open();
    await refused(store.submit(control(id("vm"))), "not_found");
    await refused(store.submit(ship(id("bld"))), "not_found");
    const request = ship(await ready());
    await store.submit(request);
    await store.requestCancel(OWNER, request.operation.id);
    await refused(store.submit(control(request.deployment.instance_id)), "not_found");
  });

  it("an instance changes outside operations by the version that its node read", async () => {
    const { store, ready, live } = open();
    const vm = await live(await ready());
    const { version } = await store.instance(OWNER, vm);
    const seen = await store.observe(vm, version, { state: "failed", error: FAILURE });
    expect(seen).toMatchObject({ version: version + 1, state: "failed", error: FAILURE });
    await refused(store.observe(vm, version, { state: "running" }), "conflict");
    await refused(store.observe(vm, seen.version, { state: "creating" }), "conflict");
  });
}

/** Node records, the revision, and the artifacts that builds keep. */
export function describeRecords(open: () => World): void {
  it("a node keeps its record through heartbeats", async () => {
    const { store, node, clock } = open();
    const record = {
      id: node,
      name: "here",
      labels: { zone: "a" },
      capacity: { vcpus: 4, memory_mb: 4096, disk_gb: 50 },
      engine: { builder: "fake", hypervisor: "fake", accelerator: "tcg", profile: "user" } as const,
      pid: 7,
      program: "1.0.0",
      draining: false,
    };
    const first = await store.registerNode(record);
    expect(first).toMatchObject({ ...record, version: 1 });
    clock.pass(1000);
    const second = await store.registerNode({ ...record, draining: true });
    expect(second).toMatchObject({ draining: true, version: 2, created_at: first.created_at });
    expect(second.heartbeat_at).toBe(first.heartbeat_at + 1000);
    expect(await store.nodes()).toEqual([second]);
  });

  it("the revision rises with every write, and with none but writes", async () => {
    const { store, build } = open();
    const before = store.revision();
    await store.nodes();
    expect(store.revision()).toBe(before);
    await store.submit(build());
    expect(store.revision()).toBeGreaterThan(before);
  });

  it("contexts and images' archives stay roots while a build names them", async () => {
    const { store, build } = open();
    const request = build();
    const [context_digest, archive] = [`sha256:${"a".repeat(64)}`, `sha256:${"b".repeat(64)}`];
    const image = {
      digest: `sha256:${"c".repeat(64)}`,
      bytes: 1,
      process: { argv: ["true"], env: {}, workdir: "/", user: "" },
      expose: [],
      base: { reference: "busybox", digest: `sha256:${"d".repeat(64)}` },
      archive,
    };
    await store.submit({ ...request, build: { ...request.build, context_digest, image } });
    expect((await store.artifactRoots()).sort()).toEqual([context_digest, archive]);
    expect((await store.build(null, request.build.id)).image).toEqual(image);
  });
}
