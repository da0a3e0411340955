// One round on a cluster of real processes: people ask for things, something fails at a moment that the seed chose, it is
// put right, and then everything must be true and nothing left over.

import { setTimeout as delay } from "node:timers/promises";
import { waitFor } from "@formation-mcp/os";
import { type Chance, chance } from "../simulation/chance.ts";
import type { Client, Data, Wish } from "./client.ts";
import { FAULTS, type Fault, type Victims } from "./faults.ts";
import { running } from "./machines.ts";

export interface RoundOptions {
  victims: Victims;
  client: Client;
  /** Whether faults last as long as they may. */
  long: boolean;
  fault?: string;
}

/** Leases, reconciling and sweeps take their time. */
const AGREE_MS = 150_000;
const sleeper = (name: string, run: string[]) => ({
  from: "busybox",
  name,
  run,
  entrypoint: ["sleep", "3000"],
});

/** Plays a round and returns one line that tells what happened. */
export async function round(seed: number, options: RoundOptions): Promise<string> {
  const { victims, client, long } = options;
  const random = chance(seed);
  const fault = FAULTS.find(({ name }) => name === options.fault) ?? random.pick(FAULTS);
  const [least, short, most] = fault.lasts;
  const ms = Math.round(random.between(least, random.happens(0.5) ? short : long ? most : short));
  const after = Math.round(random.between(0, 3000));
  const told = `seed ${seed}: ${fault.name} for ${ms} ms after ${after} ms`;
  try {
    const began = performance.now();
    await client.signIn();
    const standing = await stand(seed, client);
    const asking = ask(seed, random, client, standing);
    await delay(after);
    await hurt(fault, victims, random, ms);
    const wishes = await asking;
    for (const wish of wishes) await truthful(client, wish);
    await agree(victims, client);
    await clear(victims, client);
    if (client.offences.length > 0) throw new Error(client.offences.splice(0).join("\n"));
    const accepted = wishes.filter(({ answer }) => answer !== null).length;
    const seconds = Math.round((performance.now() - began) / 1000);
    return `${told}: ${accepted} of ${wishes.length} accepted, ${client.unavailable} times 503, ${seconds} s`;
  } catch (error) {
    const logs = victims.cluster.nodes.map(
      (node) => `${node.name}:\n${node.program().output().slice(-3000)}`,
    );
    throw new Error(`${told}: ${error instanceof Error ? error.message : error}\n${logs.join("\n")}`, {
      cause: error,
    });
  }
}

/** What is there before: a build that is ready, and two VMs that run. */
async function stand(seed: number, client: Client): Promise<{ build: string; names: string[] }> {
  const built = await client.ended(
    await client.must("pack_build", {
      formfile: sleeper("base", ["echo base"]),
      wait_seconds: 0,
      ...key(seed, "base"),
    }),
  );
  const build = String(built["build_id"] ?? (built["record"] as Data)["id"]);
  const names = [`one-${seed}`, `two-${seed}`];
  await Promise.all(
    names.map(async (instance_name) =>
      client.ended(
        await client.must("pack_ship", {
          build_id: build,
          instance_name,
          wait_seconds: 0,
          ...key(seed, instance_name),
        }),
      ),
    ),
  );
  return { build, names };
}

function key(seed: number, name: string): { idempotency_key: string } {
  return { idempotency_key: `round-${seed}-${name}` };
}

/** Asks for several things at once, some of them while what has been asked for before is under way. */
async function ask(
  seed: number,
  random: Chance,
  client: Client,
  { build, names }: { build: string; names: string[] },
): Promise<Wish[]> {
  const [one = "", two = ""] = names;
  const line = `sleep ${random.between(0, 2).toFixed(1)}; echo ${seed}`;
  const wanted: [string, Data][] = [
    ["pack_build", { formfile: sleeper(`new-${seed}`, [line]) }],
    ["pack_ship", { build_id: build, instance_name: `three-${seed}` }],
    ["vm_create", { image: "busybox", instance_name: `four-${seed}`, entrypoint: ["sleep", "3000"] }],
    ["pack_ship", { build_id: build, instance_name: one, replace: true }],
    random.pick<[string, Data]>([
      ["vm_control", { instance: two, action: "restart" }],
      ["vm_control", { instance: two, action: "stop" }],
      ["vm_delete", { instance: two, confirm: two }],
    ]),
  ];
  return Promise.all(
    wanted.map(async ([tool, parameters], at) => {
      await delay(random.between(0, 2500));
      return client.wish(tool, { ...parameters, wait_seconds: 0, ...key(seed, `wish-${at}`) });
    }),
  );
}

async function hurt(fault: Fault, victims: Victims, random: Chance, ms: number): Promise<void> {
  await fault.play(victims, random, ms);
  for (const each of [...victims.cluster.nodes, ...victims.cluster.servers]) {
    if (each.program().ended())
      throw new Error(`${each.name} did not outlive it:\n${each.program().output()}`);
  }
}

/** It has ended and says why, and the same wish again is the same operation. */
async function truthful(client: Client, wish: Wish): Promise<void> {
  if (!wish.answer) throw new Error(`${wish.tool} was refused: ${wish.refusal}`);
  const last = await client.ended(wish.answer);
  const good = ["completed", "ready", "live", "running", "stopped", "deleted"].includes(
    String(last["state"]),
  );
  const error = last["error"] as Data | undefined;
  if (!good && !error?.["message"]) throw new Error(`no truthful end: ${JSON.stringify(last)}`);
  if (error?.["code"] === "internal") throw new Error(`an internal error: ${JSON.stringify(last)}`);
  const { answer } = await client.wish(wish.tool, wish.parameters);
  if (answer && answer["operation_id"] !== wish.answer["operation_id"]) {
    throw new Error(`${wish.tool} was done twice: ${wish.answer["operation_id"]}, ${answer["operation_id"]}`);
  }
}

/** What the records say runs, runs once, and nothing else does. */
async function agree({ cluster }: Victims, client: Client): Promise<void> {
  let differ: string[] = [];
  await waitFor(
    async () => {
      const { instances } = await client.must("vm_list", { limit: 50 });
      const machines = running(cluster);
      differ = (instances as Data[]).flatMap(({ name, state }) => {
        const count = machines.get(String(name))?.size ?? 0;
        machines.delete(String(name));
        const fits =
          state === "running" ? count === 1 : ["stopped", "failed"].includes(String(state)) && count === 0;
        return fits ? [] : [`${name} is ${state} and runs ${count} times`];
      });
      for (const [name, where] of machines) differ.push(`${name} runs for nobody: ${[...where].join(", ")}`);
      return differ.length === 0;
    },
    { timeoutMs: AGREE_MS, everyMs: 250, what: "records and reality to agree" },
  ).catch((error: Error) => {
    throw new Error(`${error.message}: ${differ.join("; ")}`);
  });
}

/** Everything is deleted, and nothing of it is left on any node. */
async function clear({ cluster }: Victims, client: Client): Promise<void> {
  const { instances } = await client.must("vm_list", { limit: 50 });
  await Promise.all(
    (instances as Data[]).map(async ({ name }) => {
      const last = await client.ended(
        await client.must("vm_delete", { instance: name, confirm: name, wait_seconds: 0 }),
      );
      if (last["state"] === "failed") throw new Error(`${name} was not deleted: ${JSON.stringify(last)}`);
    }),
  );
  const left = () => [
    ...[...running(cluster)].map(([name]) => `${name} runs`),
    ...cluster.nodes.flatMap((node) => node.machines().map((machine) => `${machine} is on ${node.name}`)),
  ];
  await waitFor(() => left().length === 0, {
    timeoutMs: AGREE_MS,
    everyMs: 250,
    what: "nothing to be left",
  }).catch((error: Error) => {
    throw new Error(`${error.message}: ${left().join("; ")}`);
  });
}
