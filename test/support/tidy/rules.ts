// Every rule of tidy, by what it reads.

import { wideCode, wideMarkdown } from "./columns.ts";
import { examples } from "./examples.ts";
import { circles, crowdedFolders, folderOpenings, twoWayFolders } from "./folders.ts";
import { longFunctions } from "./functions.ts";
import { doors, environment, homes, layers } from "./imports.ts";
import { architecture, manifests, readmes } from "./manifests.ts";
import type { Offence } from "./offence.ts";
import { paths } from "./paths.ts";
import { testOnlyDoors } from "./published.ts";
import { FORBIDDEN_RULES, lengths, machinePaths, openings, putOff } from "./sources.ts";
import { ROOT, type Tree } from "./tree.ts";

/** One rule: its name and how it finds what breaks it. */
export interface Rule {
  rule: string;
  find: (tree: Tree) => Offence[] | Promise<Offence[]>;
}

/** The rules about what stands in a file. */
export const SOURCE_RULES: Rule[] = [
  { rule: "imports go strictly downward, and packages of one layer meet in tests alone", find: layers },
  { rule: "every dependency has one home and is declared there", find: homes },
  { rule: "a package is entered by its door", find: doors },
  { rule: "only assembly reads the environment", find: environment },
  ...FORBIDDEN_RULES,
  { rule: "no module is longer than 400 lines", find: lengths },
  { rule: "every module opens with what it is responsible for", find: openings },
  { rule: "no folder under src has more than 25 files", find: crowdedFolders },
  { rule: "no two folders of a package import each other", find: twoWayFolders },
  { rule: "each folder under src says what it knows", find: folderOpenings },
  { rule: "no file of a package imports itself through others", find: circles },
  { rule: "no function is longer than 100 lines", find: longFunctions },
  { rule: "no line of TypeScript is wider than 110 columns", find: wideCode },
  { rule: "no line of Markdown is wider than 100 columns", find: wideMarkdown },
  { rule: "nothing is put off in the sources", find: putOff },
  { rule: "no path of one machine is in the repository", find: (tree) => machinePaths(tree, ROOT) },
];

/** The rules about what a package says of itself. */
export const PACKAGE_RULES: Rule[] = [
  { rule: "every package.json is complete and like the others", find: manifests },
  { rule: "no published door is for tests", find: testOnlyDoors },
  { rule: "every package has a README of at most 80 lines with an example", find: readmes },
  { rule: "the examples in the READMEs compile", find: (tree) => examples(tree, ROOT) },
  { rule: "every path that a page names is there", find: (tree) => paths(tree, ROOT) },
  { rule: "ARCHITECTURE.md names exactly the packages there are, on their layers", find: architecture },
];
