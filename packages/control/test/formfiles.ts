// The default formfile of these tests, and helpers that build and ship it.

import type { Json, World } from "./world.ts";

export const HELLO = { from: "busybox", name: "hello", entrypoint: ["httpd", "-f"], expose: [8080] };

/** Builds, waits for the end and returns the id of the build. */
export async function ready(world: World, formfile: Json = HELLO): Promise<string> {
  const build = await world.call("pack_build", { formfile });
  await world.worker.step();
  return String(build["build_id"]);
}

/** Builds and ships, waits for the end and returns the first result of pack_ship. */
export async function live(world: World, name = "web", input: Json = {}): Promise<Json> {
  const ship = await world.call("pack_ship", { build_id: await ready(world), instance_name: name, ...input });
  await world.worker.step();
  return ship;
}
