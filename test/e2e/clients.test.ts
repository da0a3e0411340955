// @module-tag buildah
// @module-tag qemu
// @module-tag bundles

// The main job with the real engines, under every kind of client that hosts are built on.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HELLO, inspector, type Peer, sdkV1, sdkV2, temporaryState } from "../support/server.ts";
import { mainJob } from "../support/story.ts";

describe("A Formfile becomes a VM that answers, driven over stdio by", () => {
  let state: ReturnType<typeof temporaryState>;
  beforeAll(() => {
    state = temporaryState();
  });
  afterAll(() => state.close());

  const clients: [string, () => Promise<Peer>][] = [
    ["the SDK v2 client in the 2026-07-28 era", () => sdkV2({ stateDir: state.dir }, "modern")],
    ["the SDK v2 client in the legacy era", () => sdkV2({ stateDir: state.dir }, "legacy")],
    ["the SDK v1 client", () => sdkV1({ stateDir: state.dir })],
    ["the Inspector in the modern era", () => inspector({ stateDir: state.dir }, "modern")],
    ["the Inspector in the legacy era", () => inspector({ stateDir: state.dir }, "legacy")],
  ];
  test.each(clients)("%s", async (name, connect) => {
    const peer = await connect();
    try {
      expect(await peer.tools()).toHaveLength(13);
      const page = await mainJob(
        peer,
        name
          .replaceAll(/[^a-z0-9]+/gi, "-")
          .toLowerCase()
          .slice(0, 60)
          .replace(/-$/, ""),
        // Only one client restarts the VM, because a restart does not depend on the client.
        { restart: name === clients[0]?.[0] },
      );
      expect(page).toBe(readFileSync(join(HELLO, "www/index.html"), "utf8"));
    } finally {
      await peer.close();
    }
  });
});
