import { defineProject } from "vitest/config";

export default defineProject({
  resolve: { conditions: ["formation-source"] },
  ssr: { resolve: { conditions: ["formation-source"] } },
  test: {
    name: "base",
    include: ["test/**/*.test.ts"],
    environment: "node",
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
