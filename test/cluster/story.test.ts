// @module-tag root
// @module-tag postgres
// @module-tag nats
// @module-tag bundles

// The e2e story with the real engines over PostgreSQL and NATS: a stock client uses the bundled
// `formation-mcp`, which goes to the one address of the cluster. A second run names a node, which has to
// fetch the image.

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Cluster, PROGRAMS, testCluster } from "../support/cluster.ts";
import { ended, HELLO, must, type Peer, sdkV1, sdkV2 } from "../support/server.ts";
import { mainJob } from "../support/story.ts";

let cluster: Cluster;
let env: Record<string, string>;
beforeAll(async () => {
  cluster = await testCluster({ drivers: "real" });
  env = { FORMATION_URL: cluster.url, XDG_CONFIG_HOME: join(cluster.root, "person") };
  const [file = "", ...args] = PROGRAMS.local;
  const person = (...words: string[]) =>
    promisify(execFile)(file, [...args, ...words], { env: { ...process.env, ...env } });
  await person("keygen");
  await person("login", "--server", cluster.url, "--bootstrap", cluster.bootstrapToken);
});
afterAll(() => cluster?.stop());

const clients: [string, () => Promise<Peer>][] = [
  ["the SDK v2 client", () => sdkV2({ stateDir: join(cluster.root, "client"), env }, "modern")],
  ["the SDK v1 client", () => sdkV1({ stateDir: join(cluster.root, "client"), env })],
];
test.each(clients)(
  "a Formfile becomes a VM that answers, driven through the cluster by %s",
  async (name, connect) => {
    const peer = await connect();
    try {
      const instance = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
      const page = await mainJob(peer, instance, { restart: name === clients[0]?.[0] });
      expect(page).toBe(readFileSync(join(HELLO, "www/index.html"), "utf8"));
    } finally {
      await peer.close();
    }
  },
);

test("a build runs on every node, wherever it was made", async () => {
  const peer = await sdkV2({ stateDir: join(cluster.root, "client"), env }, "modern");
  try {
    const formfile = readFileSync(join(HELLO, "Formfile.yaml"), "utf8");
    const build = await ended(peer, await must(peer, "pack_build", { formfile, context_dir: HELLO }));
    const build_id = build["build_id"] ?? (build["record"] as { id: string }).id;
    for (const node of cluster.nodes) {
      const instance = `on-${node.name}`;
      const input = { build_id, instance_name: instance, target_node: node.name };
      const shipped = await ended(peer, await must(peer, "pack_ship", input));
      expect(shipped["done"], JSON.stringify(shipped)).toBe(true);
      expect(node.machines()).toHaveLength(1);
      const { urls } = await must(peer, "vm_status", { instance });
      const answer = await fetch((urls as string[])[0] ?? "", { headers: { connection: "close" } });
      expect(await answer.text()).toBe(readFileSync(join(HELLO, "www/index.html"), "utf8"));
    }
    for (const node of cluster.nodes) {
      const instance = `on-${node.name}`;
      await ended(peer, await must(peer, "vm_delete", { instance, confirm: instance }));
      expect(node.machines()).toHaveLength(0);
    }
  } finally {
    await peer.close();
  }
});
