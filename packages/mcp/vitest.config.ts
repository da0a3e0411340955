import { defineProject } from "vitest/config";

export default defineProject({
  resolve: { conditions: ["formation-source"] },
  ssr: { resolve: { conditions: ["formation-source"] } },
  test: {
    name: "mcp",
    include: ["test/**/*.test.ts"],
    environment: "node",
    // The story runs real child processes: on a busy host a second try is printed (retry x1), and is a bug to look at.
    retry: 1,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
