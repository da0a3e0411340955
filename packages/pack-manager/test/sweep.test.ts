import { FormationError } from "@formation-mcp/contract";
import { expect, test } from "vitest";
import { type Lab, openLab } from "./support/lab.ts";
import { aborted } from "./support/scripted-drivers.ts";

const OLD = `sha256:${"f".repeat(64)}`;

/** A step that begins and then waits until the test lets it go on. */
function held() {
  const begun = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const wait = async () => {
    begun.resolve();
    await go.promise;
  };
  return { wait, begun: begun.promise, go: () => go.resolve() };
}

/** A worker that sweeps its images only when the test says so: each sweep is blocked at its end. */
async function sweeping(lab: Lab): Promise<{ look(): Promise<void> } & AsyncDisposable> {
  await lab.worker({ artifacts: { ...lab.artifacts, shared: true }, settings: { sweepEveryMs: 10 } });
  let end = held();
  lab.builder.trim = async () => {
    await end.wait();
    return 0;
  };
  await end.begun;
  return {
    async look() {
      const before = end;
      end = held();
      before.go();
      await end.begun;
    },
    async [Symbol.asyncDispose]() {
      lab.builder.trim = async () => 0;
      end.go();
    },
  };
}

test("an image that no record names is removed, however long builds run", async () => {
  await using lab = await openLab();
  await using sweeps = await sweeping(lab);
  lab.builder.script = [(_request, hooks) => aborted(hooks.signal)];
  const { operation } = await lab.ask.build();
  await lab.reaches(operation, (read) => read.progress?.step === "pull");
  lab.builder.kept.set(OLD, 100);
  await sweeps.look();
  await sweeps.look();
  expect(lab.builder.kept.has(OLD)).toBe(false);
  await lab.store.requestCancel(null, operation.id);
  expect(await lab.ended(operation)).toMatchObject({ state: "cancelled", attempt: 1 });
});

test("an image is kept from its creation, before the builder returns it, until its record names it, and after", async () => {
  await using lab = await openLab();
  await using sweeps = await sweeping(lab);
  const saying = held();
  const sharing = held();
  const { build, exportImage } = lab.builder;
  lab.builder.build = async (request, hooks) => {
    const image = await build(request, hooks);
    await saying.wait();
    return image;
  };
  lab.builder.exportImage = async function* (digest, signal) {
    await sharing.wait();
    yield* exportImage(digest, signal);
  };
  const asked = await lab.ask.build();
  await saying.begun;
  await sweeps.look();
  saying.go();
  await sharing.begun;
  await sweeps.look();
  await sweeps.look();
  sharing.go();
  expect(await lab.ended(asked.operation)).toMatchObject({ state: "completed", attempt: 1 });
  await sweeps.look();
  await sweeps.look();
  const { image } = await lab.store.build(null, asked.build);
  expect([...lab.builder.kept.keys()]).toEqual([image?.digest]);
});

test("a build whose image is being removed at that moment makes it again", async () => {
  await using lab = await openLab();
  await using sweeps = await sweeping(lab);
  const removal = held();
  const { remove, build } = lab.builder;
  lab.builder.remove = async (digest) => {
    await removal.wait();
    await remove(digest);
  };
  // As a build does whose steps are all cached.
  lab.builder.build = async (request, hooks) => {
    const image = await build(request, hooks);
    lab.builder.kept.delete(image.digest);
    lab.builder.kept.set(OLD, 100);
    return { ...image, digest: OLD };
  };
  lab.builder.kept.set(OLD, 100);
  const looked = sweeps.look();
  await removal.begun;
  const asked = await lab.ask.build();
  await lab.reaches(asked.operation, (read) => read.progress?.step === "share");
  removal.go();
  await looked;
  expect(await lab.ended(asked.operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect((await lab.store.build(null, asked.build)).image?.digest).toBe(OLD);
  expect([...lab.builder.kept.keys()]).toEqual([OLD]);
});

test("only one wake-up of stranded operations waits for a queue that is away, and none once the worker stops", async () => {
  await using lab = await openLab();
  for (let n = 0; n < 3; n++) await lab.ask.build();
  let away = true;
  let published = 0;
  const sending = held();
  lab.queue.publish = async () => {
    published += 1;
    if (away) throw new FormationError("unavailable", "The queue is away.");
    await sending.wait();
  };
  const node = { id: lab.node, capacity: { vcpus: 0, memory_mb: 0, disk_gb: 0 } };
  const settings = { strandedMs: -1, sweepEveryMs: 3_600_000 };
  await (await lab.worker({ node, settings })).stop();
  expect(published).toBe(1);
  const worker = await lab.worker({ node, settings: { ...settings, sweepEveryMs: 50 } });
  away = false;
  await sending.begun;
  const before = published;
  const stopped = worker.stop();
  sending.go();
  await stopped;
  expect(published).toBe(before);
});
