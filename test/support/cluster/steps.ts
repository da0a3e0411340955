// A worker killed at each step of its work: while the store shows that step; or while it writes the beginning
// or the end of an operation, in an open transaction that waits for a locked row.

import { setTimeout as delay } from "node:timers/promises";
import type { Node } from "../../../examples/cluster/ground.ts";
import type { Chance } from "../simulation/chance.ts";
import type { Fault, Victims } from "./faults.ts";
import { type Insight, insight, Missed, nodeOf, type Seen, until } from "./insight.ts";
import type { Scene } from "./scenes.ts";

/**
 * Kind of operation, step, scene. `first write`: before its first write; `end`: only the final write is
 * missing.
 */
const POINTS: readonly [kind: string, step: string, scene: Scene][] = [
  ["build", "first write", "usual"],
  ["build", "context", "context"],
  ["build", "pull", "usual"],
  ["build", "include", "usual"],
  ["build", "run 1/1", "usual"],
  ["build", "commit", "usual"],
  ["build", "share", "usual"],
  ["build", "end", "usual"],
  ["ship", "first write", "usual"],
  ["ship", "pull", "usual"],
  ["ship", "image", "fetch"],
  ["ship", "disk", "usual"],
  ["ship", "create", "usual"],
  ["ship", "replace", "usual"],
  ["ship", "boot", "usual"],
  ["ship", "entrypoint", "usual"],
  ["ship", "end", "usual"],
  ["ship", "roll back", "roll back"],
  ["control", "stop", "restart"],
  ["control", "boot", "restart"],
  ["control", "entrypoint", "restart"],
  ["control", "end", "restart"],
  ["control", "pause", "pause"],
  ["control", "resume", "resume"],
  ["delete", "first write", "delete"],
  ["delete", "remove", "delete"],
];

/** The last step of each kind of operation before the write of its end. */
const LAST: Record<string, string> = {
  build: "share",
  ship: "entrypoint",
  control: "entrypoint",
};

export const STEPS: readonly Fault[] = POINTS.map(([kind, step, scene]) => ({
  name: `a worker killed at ${kind}: ${step}`,
  scene,
  waits: true,
  async play(victims, chance) {
    await using store = await insight(victims.cluster.postgres.adminUrl);
    const node =
      step === "first write"
        ? await atFirstWrite(victims, store, kind)
        : step === "end"
          ? await atEnd(victims, store, kind)
          : await atStep(victims, store, kind, step, chance);
    const ms = chance.pick(victims.awayMs);
    await delay(ms);
    await node.start();
    return `${node.name} was away for ${ms} ms`;
  },
}));

const LIMIT = { limitMs: 30_000, everyMs: 10 };

async function atStep(
  victims: Victims,
  store: Insight,
  kind: string,
  step: string,
  chance: Chance,
): Promise<Node> {
  for (let tries = 0; tries < 10; tries++) {
    const found = await at(store, kind, step);
    const node = nodeOf(victims.cluster, found);
    await delay(chance.between(0, 200));
    const now = await store.one(found.id);
    if (now?.state !== "running" || now.step !== step || now.attempt !== found.attempt) continue;
    await node.program().kill();
    return node;
  }
  throw new Missed(`no ${kind} stayed at ${step}`);
}

/** No worker claims while all are stopped; the first to continue waits for the locked row. */
async function atFirstWrite(victims: Victims, store: Insight, kind: string): Promise<Node> {
  const programs = victims.cluster.nodes.map((node) => node.program());
  for (const program of programs) program.signal("SIGSTOP");
  let queued: Seen;
  try {
    queued = await until(
      `a queued ${kind}`,
      async () => (await store.unfinished()).find((seen) => seen.kind === kind && seen.state === "queued"),
      LIMIT,
    );
    await store.hold(queued.target);
  } finally {
    for (const program of programs) program.signal("SIGCONT");
  }
  return killHeld(victims, store, queued.id);
}

async function atEnd(victims: Victims, store: Insight, kind: string): Promise<Node> {
  const found = await at(store, kind, LAST[kind] ?? "");
  await store.hold(found.target);
  return killHeld(victims, store, found.id);
}

/** Kills the worker that waits to write about an operation, then releases the lock. */
async function killHeld(victims: Victims, store: Insight, id: string): Promise<Node> {
  try {
    await until("a write that waits", () => store.waiting(), LIMIT);
    const seen = await store.one(id);
    if (seen?.state !== "running") throw new Missed(`${id} was ${seen?.state} before anything was killed`);
    const node = nodeOf(victims.cluster, seen);
    await node.program().kill();
    return node;
  } finally {
    await store.release();
  }
}

function at(store: Insight, kind: string, step: string): Promise<Seen> {
  return until(
    `a ${kind} at ${step}`,
    async () =>
      (await store.unfinished()).find(
        (seen) => seen.kind === kind && seen.state === "running" && seen.step === step,
      ),
    LIMIT,
  );
}
