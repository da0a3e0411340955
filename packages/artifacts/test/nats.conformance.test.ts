// @module-tag nats

import { describeArtifacts } from "@formation-mcp/artifacts/testing/conformance";
import { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
import { afterAll, beforeAll } from "vitest";
import { NatsWorld } from "./support/nats.ts";

let server: NatsServer;
beforeAll(async () => {
  server = await startNats();
});
afterAll(() => server.stop());

describeArtifacts("NATS", async () => {
  const world = await NatsWorld.open(server);
  return {
    open: () => world.node(),
    damage: (digest) => world.damage(digest),
    close: () => world.close(),
  };
});
