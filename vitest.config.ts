import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: ["packages/*/vitest.config.ts", "apps/*/vitest.config.ts", "test/vitest.config.ts"],
    // Real machines boot in many files: more at a time than there are cores only makes each slower.
    maxWorkers: 2,
  },
});
