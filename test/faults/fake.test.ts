// @module-tag bundles
// @module-tag slow

// Processes are killed at random moments, with the fake engines and everything else real.

import { test } from "vitest";
import { play } from "../support/rounds.ts";

test("after kill -9 at a random moment everything is true and nothing is left, 50 times", {
  retry: 0,
  timeout: 1_200_000,
}, async () => {
  // Below the range that the kernel assigns to other programs.
  let port = 12_000 + Math.floor(Math.random() * 20_000);
  await play(50, {
    drivers: "fake",
    actionMs: 600,
    formfile: (variant) => ({
      from: "busybox",
      name: "fault",
      run: [`echo ${variant} > variant`],
      expose: [++port],
      entrypoint: ["/bin/busybox", "httpd", "-f", "-p", String(port), "-h", "."],
      resources: { memory_mb: 64 },
    }),
  });
});
