// @module-tag buildah
// @module-tag qemu
// @module-tag bundles
// @module-tag slow

// Processes are killed at random moments, with buildah and QEMU. `soak` plays more of these rounds.

import { test } from "vitest";
import { play } from "../support/rounds.ts";

test("after kill -9 at a random moment everything is true and nothing is left, 8 times for real", {
  retry: 0,
  timeout: 7_200_000,
}, async () => {
  await play(8, {
    drivers: "real",
    actionMs: 6000,
    formfile: (variant) => ({
      from: "busybox",
      name: "fault",
      run: [`echo ${variant} > variant`],
      expose: [8080],
      entrypoint: ["/bin/httpd", "-f", "-p", "8080", "-h", "."],
      resources: { memory_mb: 192, disk_gb: 1 },
    }),
  });
});
