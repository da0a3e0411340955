import { newId } from "@formation-mcp/contract";
import { expect, test } from "vitest";
import { type Lab, openLab } from "./support/lab.ts";
import { type ScriptedBuilder, scriptedBuilder } from "./support/scripted-drivers.ts";

const sharedBy = (lab: Lab) => ({ ...lab.artifacts, shared: true });

/** A build that one node made, and a worker on another node without its image. */
async function elsewhere(lab: Lab): Promise<{ build: `bld_${string}`; builder: ScriptedBuilder }> {
  const artifacts = sharedBy(lab);
  const first = await lab.worker({ artifacts });
  const { build, operation } = await lab.ask.build();
  expect((await lab.ended(operation)).state).toBe("completed");
  await first.stop();
  return { build, builder: scriptedBuilder() };
}

const startOn = async (lab: Lab, builder: ScriptedBuilder) => {
  const id = newId("node");
  const engine = {
    builder: "scripted",
    hypervisor: "scripted",
    accelerator: "tcg",
    profile: "user",
  } as const;
  const capacity = { vcpus: 16, memory_mb: 4096, disk_gb: 100 };
  await lab.worker({
    artifacts: sharedBy(lab),
    builder,
    node: { id, name: "there", labels: {}, capacity, engine, pid: process.pid, program: "1.0.0" },
  });
  return id;
};

test("another node fetches an image once, however many shipments need it, and runs it", async () => {
  await using lab = await openLab();
  const { build, builder } = await elsewhere(lab);
  const { image } = await lab.store.build(null, build);
  expect(image?.archive).toMatch(/^sha256:[0-9a-f]{64}$/);
  expect(await lab.store.artifactRoots()).toContain(image?.archive);
  const node = await startOn(lab, builder);
  const shipped = await Promise.all(["a", "b", "c"].map((name) => lab.ask.ship(build, { name })));
  for (const { operation, instance } of shipped) {
    expect(await lab.ended(operation)).toMatchObject({ state: "completed" });
    expect(await lab.instance(instance)).toMatchObject({ state: "running", node_id: node });
  }
  expect(builder.imported).toEqual([image?.digest]);
});

test("an image whose fetch failed is fetched again", async () => {
  await using lab = await openLab();
  const { build, builder } = await elsewhere(lab);
  let times = 0;
  builder.onImport = async () => {
    if (++times === 1) throw new Error("the disk is full");
  };
  await startOn(lab, builder);
  const { operation } = await lab.ask.ship(build);
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
});

test("a shipment whose image the artifacts have lost fails and says so, not as the caller's mistake", async () => {
  await using lab = await openLab();
  const { build, builder } = await elsewhere(lab);
  await lab.artifacts.collect([], -1);
  await startOn(lab, builder);
  const { operation } = await lab.ask.ship(build);
  expect(await lab.ended(operation)).toMatchObject({
    state: "failed",
    attempt: 3,
    error: { code: "unavailable", step: "image", remedy: expect.any(String) },
  });
});

test("without shared artifacts no image is exported, and another node says where the image is", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const { build, operation } = await lab.ask.build();
  await lab.ended(operation);
  expect((await lab.store.build(null, build)).image).not.toHaveProperty("archive");
  await first.stop();
  await startOn(lab, scriptedBuilder());
  const shipped = await lab.ask.ship(build);
  expect(await lab.ended(shipped.operation)).toMatchObject({
    state: "failed",
    error: { code: "unavailable", message: expect.stringContaining("another node") },
  });
});
