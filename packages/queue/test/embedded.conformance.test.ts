import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { describeQueue } from "@formation-mcp/queue/testing/conformance";

// pollMs 0: another process can only be woken by the watch.
describeQueue("the embedded queue, never polling", async () => {
  const directory = await mkdtemp(join(tmpdir(), "queue-"));
  const options = { path: join(directory, "queue.sqlite"), leaseMs: 300, retryMs: 10, pollMs: 0 };
  return {
    open: () => openEmbeddedQueue(options),
    child: {
      module: import.meta.resolve("@formation-mcp/queue/embedded"),
      open: "openEmbeddedQueue",
      options,
    },
    leaseMs: 300,
    close: () => rm(directory, { recursive: true }),
  };
});
