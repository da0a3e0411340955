// The story of the demo as a test: build, ship, request a page from the VM, check its status, restart it,
// delete it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "@formation-mcp/os";
import { expect } from "vitest";
import { ended, HELLO, must, type Peer } from "./server.ts";

/**
 * Runs the whole story with one client and returns the answer of the VM. Without `restart` the VM boots once.
 */
export async function mainJob(peer: Peer, name: string, { restart = true } = {}): Promise<string> {
  const formfile = readFileSync(join(HELLO, "Formfile.yaml"), "utf8");
  const build = await ended(peer, await must(peer, "pack_build", { formfile, context_dir: HELLO }));
  expect(build["done"], JSON.stringify(build)).toBe(true);
  const buildId = String(build["build_id"] ?? (build["record"] as { id: string } | undefined)?.id);

  await ended(peer, await must(peer, "pack_ship", { build_id: buildId, instance_name: name }));
  const live = await must(peer, "vm_status", { instance: name });
  expect(live["state"], JSON.stringify(live)).toBe("running");
  const url = (live["urls"] as string[])[0] ?? "";
  const page = await body(url);
  expect(await body(`${url.replace(/\/$/, "")}/built.txt`)).toMatch(/^built at \d{4}-.*x86_64\n$/);

  // The output of a guest is copied to its log a moment later.
  await waitFor(
    async () =>
      String(
        (await must(peer, "vm_logs", { instance: name, streams: ["stdout", "stderr"] }))["log"],
      ).includes("response:200"),
    { timeoutMs: 10_000, everyMs: 300, what: "the request in the VM's log" },
  );

  if (restart) {
    await ended(peer, await must(peer, "vm_control", { instance: name, action: "restart" }));
    const again = await must(peer, "vm_status", { instance: name });
    expect(await body((again["urls"] as string[])[0] ?? "")).toBe(page);
  }

  await ended(peer, await must(peer, "vm_delete", { instance: name, confirm: name }));
  const list = await must(peer, "vm_list", {});
  expect((list["instances"] as { name: string }[]).map((each) => each.name)).not.toContain(name);
  await expect(body(url)).rejects.toThrow();
  return page;
}

async function body(url: string): Promise<string> {
  const response = await fetch(url, {
    signal: AbortSignal.timeout(10_000),
    headers: { connection: "close" },
  });
  expect(response.status).toBe(200);
  return response.text();
}
