// Style and structure as a unit test instead of a review. Every rule reads the sources and tells all offences
// at once, each with its place and what to do. There is no list of exceptions.

import { beforeAll, describe, expect, it } from "vitest";
import { tell } from "./support/tidy/offence.ts";
import { PACKAGE_RULES, SOURCE_RULES } from "./support/tidy/rules.ts";
import { readTree, type Tree } from "./support/tidy/tree.ts";

describe("the repository is tidy", () => {
  let tree: Tree;
  beforeAll(() => {
    tree = readTree();
  });

  it.each([...SOURCE_RULES, ...PACKAGE_RULES])("$rule", async ({ find }) => {
    const offences = await find(tree);
    if (offences.length > 0) expect.fail(`${offences.length} offences\n${tell(offences)}`);
  });
});
