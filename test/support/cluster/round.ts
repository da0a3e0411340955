// One round on a cluster of real processes: users make requests, a fault happens at a moment that the seed
// chose, the cluster is restored, and then all records must be true and nothing left over.

import { setTimeout as delay } from "node:timers/promises";
import { waitFor } from "@formation-mcp/os";
import { type Chance, chance } from "../simulation/chance.ts";
import type { Client, Data, Wish } from "./client.ts";
import { FAULTS, type Fault, type Victims } from "./faults.ts";
import { Missed } from "./insight.ts";
import { leftovers, running, type Watch } from "./machines.ts";
import { key, stand, type Wanted, wanted } from "./scenes.ts";

export interface RoundOptions {
  victims: Victims;
  client: Client;
  watch: Watch;
  fault: string;
}

export interface Told {
  line: string;
  fault: string;
  seconds: number;
  unavailable: number;
  accepted: number;
  /** Whether the moment of the fault did not come; everything else was played. */
  missed: boolean;
}

/** Leases, reconciliation and sweeps take this long. */
const AGREE_MS = 240_000;

/** Plays a round and returns a report. @throws what does not hold, with the last log lines of the nodes. */
export async function round(seed: number, options: RoundOptions): Promise<Told> {
  const { victims, client, watch } = options;
  const random = chance(seed);
  const fault = FAULTS.find(({ name }) => name === options.fault);
  if (!fault) throw new Error(`There is no fault "${options.fault}".`);
  let told = `seed ${seed}: ${fault.name}`;
  try {
    const began = performance.now();
    const before = client.unavailable;
    await client.signIn();
    const standing = await stand(seed, fault.scene, client);
    const wishes = wanted(seed, fault.scene, random, standing);
    const asking = ask(seed, random, client, wishes);
    asking.catch(() => {}); // The fault's own words come first.
    if (!fault.waits) await delay(random.between(0, 3000));
    let missed = false;
    told += ` ${await hurt(fault, victims, client, random).catch((error) => {
      if (!(error instanceof Missed)) throw error;
      missed = true;
      return `missed: ${error.message}`;
    })}`;
    const asked = await asking;
    for (const wish of asked) await truthful(client, wish);
    await agree(victims, client);
    await clear(victims, client);
    const wrong = [...client.offences.splice(0), ...watch.doubled];
    if (wrong.length > 0) throw new Error(wrong.join("\n"));
    const accepted = asked.filter(({ answer }) => answer !== null).length;
    const seconds = Math.round((performance.now() - began) / 1000);
    const unavailable = client.unavailable - before;
    const line = `${told}: ${accepted} of ${asked.length} accepted, ${unavailable} times 503, ${seconds} s`;
    return { line, fault: fault.name, seconds, unavailable, accepted, missed };
  } catch (error) {
    const logs = [...victims.cluster.nodes, ...victims.cluster.servers].map(
      (each) => `${each.name}:\n${linesOf(each.program().output()).join("\n")}`,
    );
    const why = [error instanceof Error ? error.message : String(error), ...watch.doubled];
    throw new Error(`${told}: ${why.join("\n")}\n${logs.join("\n")}`, { cause: error });
  }
}

/** Makes several requests at once, some of them about records whose operations still run. */
async function ask(seed: number, random: Chance, client: Client, wishes: Wanted[]): Promise<Wish[]> {
  const wish = async ([tool, parameters]: Wanted, name: string) =>
    client.wish(tool, { ...parameters, wait_seconds: 0, ...key(seed, name) });
  return await Promise.all(
    wishes.map(async (each, at) => {
      await delay(random.between(0, 2500));
      return await wish(each, `wish-${at}`);
    }),
  );
}

/** Makes the fault happen while the answers of the servers are checked. */
async function hurt(fault: Fault, victims: Victims, client: Client, random: Chance): Promise<string> {
  const heard = client.listen();
  const told = await fault.play(victims, random).finally(() => heard.stop());
  for (const each of [...victims.cluster.nodes, ...victims.cluster.servers]) {
    if (each.program().ended())
      throw new Error(`${each.name} did not outlive it:\n${each.program().output()}`);
  }
  const { unavailable, gone } = heard;
  if (fault.servers === "unavailable" && unavailable === 0)
    throw new Error("No server said that it can't serve.");
  if (fault.servers === "gone" && gone === 0) throw new Error("Nobody noticed that no server lived.");
  return told;
}

/** The operation has ended and has a reason, and the same request again returns the same operation. */
async function truthful(client: Client, wish: Wish): Promise<void> {
  if (!wish.answer) throw new Error(`${wish.tool} was refused: ${wish.refusal}`);
  const last = await client.ended(wish.answer);
  const good = ["completed", "ready", "live", "running", "stopped", "paused", "deleted"].includes(
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

/** The instances that run according to the records run exactly once, and no others run. */
async function agree({ cluster }: Victims, client: Client): Promise<void> {
  let differ: string[] = [];
  await waitFor(
    async () => {
      const { instances } = await client.must("vm_list", { limit: 50 });
      const machines = running(cluster);
      differ = (instances as Data[]).flatMap(({ name, state }) => {
        const count = machines.get(String(name))?.size ?? 0;
        machines.delete(String(name));
        const runs = state === "running" || state === "paused";
        const fits = runs ? count === 1 : ["stopped", "failed"].includes(String(state)) && count === 0;
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

/** Deletes everything, and checks that no node keeps anything of it. */
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
  await waitFor(() => leftovers(cluster).length === 0, {
    timeoutMs: AGREE_MS,
    everyMs: 250,
    what: "nothing to be left",
  }).catch((error: Error) => {
    throw new Error(`${error.message}: ${leftovers(cluster).join("; ")}`);
  });
}

/** The last log lines of a program, without those of requests. */
function linesOf(output: string): string[] {
  return output
    .split("\n")
    .filter((line) => !line.includes('"message":"request"'))
    .slice(-40)
    .map((line) => line.slice(0, 1000));
}
