import { expect, test } from "vitest";
import { openDoors } from "./doors.ts";

const FORMFILE = { from: "busybox", name: "hello", entrypoint: ["httpd", "-f"], expose: [8080] };

for (const era of ["modern", "legacy"] as const) {
  test(`a ${era} client builds, ships, looks, restarts and deletes`, async () => {
    await using doors = await openDoors();
    doors.worker.start();
    const peer = await doors.connect(undefined, { era });

    const build = await peer.must("pack_build", { formfile: FORMFILE });
    expect(build).toMatchObject({ name: "hello", state: "ready", done: true });
    expect(build["next"]).toContain("pack_ship");

    const ship = await peer.must("pack_ship", { build_id: build["build_id"], instance_name: "web" });
    expect(ship).toMatchObject({ instance_name: "web", state: "live", done: true });
    expect(ship["urls"]).toEqual(["http://127.0.0.1:40080"]);

    const status = await peer.must("vm_status", { instance: "web" });
    expect(status).toMatchObject({ state: "running", desired: "running", urls: ship["urls"] });

    const operation = await peer.must("operation_get", { id: ship["operation_id"] });
    expect(operation).toMatchObject({ state: "completed", done: true });

    expect(await peer.must("vm_control", { instance: "web", action: "restart" })).toMatchObject({
      done: true,
    });
    expect(await peer.must("vm_delete", { instance: "web", confirm: "web" })).toMatchObject({
      state: "deleted",
      done: true,
    });
    expect(await peer.must("vm_list")).toEqual({ instances: [], cursor: null });
  });
}
