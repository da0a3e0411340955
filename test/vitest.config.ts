import { defineProject } from "vitest/config";

export default defineProject({
  resolve: { conditions: ["formation-source"] },
  ssr: { resolve: { conditions: ["formation-source"] } },
  test: {
    name: "system",
    include: ["**/*.test.ts"],
    environment: "node",
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});
