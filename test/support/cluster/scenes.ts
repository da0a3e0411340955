// The requests of users in a round: several at once, some of them about existing records, and in each scene
// the request that a fault waits for.

import type { Chance } from "../simulation/chance.ts";
import type { Client, Data } from "./client.ts";

/** `usual` is what every round requests; the other scenes request one thing more. */
export type Scene = "usual" | "context" | "fetch" | "roll back" | "restart" | "pause" | "resume" | "delete";

export type Wanted = [tool: string, parameters: Data];

export interface Standing {
  /** A build that is ready. */
  build: string;
  /** A build whose program ends at once. */
  bad: string;
  /** A build that has not been shipped yet. */
  fresh: string;
  names: [one: string, two: string, three: string];
}

const sleeper = (name: string, run: string[], more: Data = {}) => ({
  from: "busybox",
  name,
  run,
  entrypoint: ["sleep", "3000"],
  ...more,
});

/** The records before the round: ready builds, and three running VMs. */
export async function stand(seed: number, scene: Scene, client: Client): Promise<Standing> {
  const make = async (name: string, more: Data = {}) => {
    const formfile = sleeper(name, [`echo ${name} ${seed}`], more);
    const asked = await client.must("pack_build", { formfile, wait_seconds: 0, ...key(seed, name) });
    const built = await client.ended(asked);
    return String(built["build_id"] ?? (built["record"] as Data)["id"]);
  };
  const [build, bad, fresh] = await Promise.all([
    make("base"),
    scene === "roll back" ? make("bad", { entrypoint: ["false"] }) : "",
    scene === "fetch" ? make("fresh") : "",
  ]);
  const names: Standing["names"] = [`one-${seed}`, `two-${seed}`, `three-${seed}`];
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
  if (scene === "resume") {
    const pause = { instance: names[2], action: "pause", wait_seconds: 0, ...key(seed, "pause") };
    await client.ended(await client.must("vm_control", pause));
  }
  return { build, bad, fresh, names };
}

export function key(seed: number, name: string): { idempotency_key: string } {
  return { idempotency_key: `round-${seed}-${name}` };
}

export function wanted(
  seed: number,
  scene: Scene,
  random: Chance,
  { build, bad, fresh, names: [one, two, three] }: Standing,
): Wanted[] {
  const line = `sleep ${random.between(0.3, 1.5).toFixed(1)}; echo ${seed}`;
  // So many files that unpacking them takes long enough to be seen.
  const files = scene === "context" ? 4000 : 40;
  const context_files = Object.fromEntries(
    Array.from({ length: files }, (_, i) => [`files/${i}.txt`, `${seed} ${i}\n`.repeat(4000 / files)]),
  );
  const usual: Wanted[] = [
    ["pack_build", { formfile: sleeper(`new-${seed}`, [line], { include: ["files"] }), context_files }],
    ["pack_ship", { build_id: build, instance_name: `four-${seed}` }],
    ["vm_create", { image: "busybox", instance_name: `five-${seed}`, entrypoint: ["sleep", "3000"] }],
    ["pack_ship", { build_id: build, instance_name: one, replace: true }],
    random.pick<Wanted>([
      ["vm_control", { instance: two, action: "restart" }],
      ["vm_control", { instance: two, action: "stop" }],
      ["vm_delete", { instance: two, confirm: two }],
    ]),
  ];
  const control = (action: string): Wanted => ["vm_control", { instance: three, action }];
  switch (scene) {
    case "fetch":
      // Only one of the two nodes has built it.
      for (const target_node of ["node-1", "node-2"])
        usual.push([
          "pack_ship",
          { build_id: fresh, instance_name: `on-${target_node}-${seed}`, target_node },
        ]);
      break;
    case "roll back":
      usual.push(["pack_ship", { build_id: bad, instance_name: three, replace: true }]);
      break;
    case "restart":
    case "pause":
    case "resume":
      usual.push(control(scene));
      break;
    case "delete":
      usual.push(["vm_delete", { instance: three, confirm: three }]);
      break;
    default:
      break;
  }
  return usual;
}
