// Style and structure as a unit test instead of a review. Every rule reads the sources and tells all offences
// at once, each with its place and what to do. There is no list of exceptions.

import { beforeAll, describe, expect, it } from "vitest";
import { tell } from "./support/tidy/offence.ts";
import { COMING_RULES, PACKAGE_RULES, SOURCE_RULES } from "./support/tidy/rules.ts";
import { readTree, type Tree } from "./support/tidy/tree.ts";

const ENFORCED = [...SOURCE_RULES, ...PACKAGE_RULES, ...(process.env["TIDY_COMING"] ? COMING_RULES : [])];

describe("the house is tidy", () => {
  let tree: Tree;
  beforeAll(() => {
    tree = readTree();
  });

  it.each(ENFORCED)("$rule", async ({ find }) => {
    const offences = await find(tree);
    if (offences.length > 0) expect.fail(`${offences.length} offences\n${tell(offences)}`);
  });
});
