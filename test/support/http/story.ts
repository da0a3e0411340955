// The story of the demo over HTTP, where a client can not name a directory of the server: the files are sent
// inline.

import { expect } from "vitest";
import { ended, must, type Peer } from "../server.ts";

/**
 * Builds a page and ships it, requests it from the VM, and deletes the VM.
 * @param port where it serves: with the fake drivers it is a port of this machine, so each story needs its
 *   own.
 */
export async function shipsAPage(peer: Peer, name: string, port: number): Promise<void> {
  const page = `hello from ${name}\n`;
  const build = await ended(
    peer,
    await must(peer, "pack_build", {
      formfile: {
        from: "busybox",
        name,
        include: ["page.txt"],
        run: ["wc -c < page.txt > size.txt"],
        expose: [port],
        entrypoint: ["/bin/busybox", "httpd", "-f", "-p", String(port), "-h", "."],
        resources: { memory_mb: 192, disk_gb: 1 },
      },
      context_files: { "page.txt": page },
    }),
  );
  expect(build["done"], JSON.stringify(build)).toBe(true);
  const buildId = String(build["build_id"] ?? (build["record"] as { id: string } | undefined)?.id);

  await ended(peer, await must(peer, "pack_ship", { build_id: buildId, instance_name: name }));
  const live = await must(peer, "vm_status", { instance: name });
  expect(live["state"], JSON.stringify(live)).toBe("running");
  const url = String((live["urls"] as string[])[0]).replace(/\/$/, "");
  expect(await text(`${url}/page.txt`)).toBe(page);
  expect((await text(`${url}/size.txt`)).trim()).toBe(String(page.length));

  await ended(peer, await must(peer, "vm_delete", { instance: name, confirm: name }));
  const { instances } = await must(peer, "vm_list", {});
  expect((instances as { name: string }[]).map((each) => each.name)).not.toContain(name);
}

async function text(url: string): Promise<string> {
  const response = await fetch(url, {
    signal: AbortSignal.timeout(10_000),
    headers: { connection: "close" },
  });
  expect(response.status).toBe(200);
  return response.text();
}
