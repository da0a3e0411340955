import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { SecondTries } from "./test/support/second-tries.ts";
import { TAGS } from "./vitest.base.ts";

/**
 * What runs whole programs and machines takes longest: begun last, one file of it would run on alone at the
 * end.
 */
class SystemFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const later = ({ project }: TestSpecification) => Number(project.name !== "system");
    return (await super.sort(files)).sort((a, b) => later(a) - later(b));
  }
}

export default defineConfig({
  test: {
    projects: ["packages/*/vitest.config.ts", "apps/*/vitest.config.ts", "test/vitest.config.ts"],
    sequence: { sequencer: SystemFirst },
    reporters: ["default", new SecondTries()],
    tags: TAGS,
  },
});
