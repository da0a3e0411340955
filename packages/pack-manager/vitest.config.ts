import { defineProject } from "vitest/config";

export default defineProject({
  resolve: { conditions: ["formation-source"] },
  ssr: { resolve: { conditions: ["formation-source"] } },
  test: {
    name: "pack-manager",
    include: ["test/**/*.test.ts"],
    environment: "node",
    // Generous, because they run beside builds and machines: nothing here waits longer than it must.
    testTimeout: 60_000,
    expect: { poll: { timeout: 15_000, interval: 20 } },
  },
});
