// @module-tag nats

import { startNats } from "@formation-mcp/os/testing/nats-server";
import { describeQueue } from "@formation-mcp/queue/testing/conformance";
import { type OpenOptions, openOwn } from "./nats-child.ts";

describeQueue("the NATS queue", async () => {
  const server = await startNats();
  const options: OpenOptions = {
    nats: { servers: [server.url], name: "conformance", reconnectMs: 20 },
    queue: { leaseMs: 500, retryMs: 40 },
  };
  return {
    open: () => openOwn(options),
    child: { module: import.meta.resolve("./nats-child.ts"), open: "openOwn", options },
    leaseMs: 500,
    close: () => server.stop(),
  };
});
