// Style and structure as a unit test, not as a reviewer's mood. Every rule reads the sources and tells all offences at
// once, each with its place and what to do. There is no list of exceptions.

import { beforeAll, describe, expect, it } from "vitest";
import { doors, environment, floors, homes } from "./support/tidy/arrows.ts";
import { examples } from "./support/tidy/examples.ts";
import { codeOf, importsOf } from "./support/tidy/lexer.ts";
import { architecture, manifests, readmes } from "./support/tidy/manifests.ts";
import { type Offence, tell } from "./support/tidy/offence.ts";
import { FORBIDDEN_RULES, lengths, machinePaths, openings, putOff } from "./support/tidy/sources.ts";
import { ROOT, readTree, sourceFile, type Tree } from "./support/tidy/tree.ts";

const RULES: { rule: string; find: (tree: Tree) => Offence[] | Promise<Offence[]> }[] = [
  { rule: "imports go strictly downward, and neighbours meet in tests alone", find: floors },
  { rule: "every dependency has one home and is declared there", find: homes },
  { rule: "a room is entered by its door", find: doors },
  { rule: "only assembly reads the environment", find: environment },
  ...FORBIDDEN_RULES,
  { rule: "no module is longer than 400 lines", find: lengths },
  { rule: "every module opens with the secret it keeps", find: openings },
  { rule: "nothing is put off in the sources", find: putOff },
  { rule: "no path of one machine is in the repository", find: (tree) => machinePaths(tree, ROOT) },
  { rule: "every package.json is complete and like the others", find: manifests },
  { rule: "every package has a README of at most 40 lines with an example", find: readmes },
  { rule: "the examples in the READMEs compile", find: (tree) => examples(tree, ROOT) },
  { rule: "ARCHITECTURE.md names exactly the rooms there are, on their floors", find: architecture },
];

describe("the house is tidy", () => {
  let tree: Tree;
  beforeAll(() => {
    tree = readTree();
  });

  it.each(RULES)("$rule", async ({ find }) => {
    const offences = await find(tree);
    if (offences.length > 0) expect.fail(`${offences.length} offences\n${tell(offences)}`);
  });
});

/** A tree of the files given; each room gets a package.json that declares nothing. */
function treeOf(sources: Record<string, string>): Tree {
  const files = Object.entries(sources).map(([path, text]) => sourceFile(path, text));
  const rooms = [...new Set(files.map((file) => file.room).filter((room) => room !== ""))];
  const manifests = rooms.map((room) =>
    sourceFile(`${room}/package.json`, JSON.stringify({ name: `@formation-mcp/${room.split("/")[1]}` })),
  );
  return { files: [...manifests, ...files], rooms };
}

describe("a rule sees what it is for", () => {
  const src = "packages/control/src/x.ts";
  const CAUGHT: [rule: string, path: string, text: string][] = [
    ["imports go", "packages/queue/src/x.ts", 'import { x } from "@formation-mcp/control";'],
    ["imports go", "packages/formfile/src/x.ts", 'import type { x } from "@formation-mcp/contract";'],
    ["imports go", "packages/nowhere/src/x.ts", ""],
    ["imports go", "packages/contract/test/x.ts", 'await import("@formation-mcp/os");'],
    [
      "imports go",
      "packages/queue/package.json",
      '{ "dependencies": {\n"@formation-mcp/operations": "workspace:^"\n} }',
    ],
    ["every dependency", src, 'import { parse } from "yaml";'],
    ["every dependency", src, 'import { DatabaseSync } from "node:sqlite";'],
    ["every dependency", src, 'import leftPad from "left-pad";'],
    ["every dependency", src, 'import { it } from "vitest";'],
    ["every dependency", "packages/formfile/src/x.ts", 'const yaml = require("yaml");'],
    ["a room is entered", src, 'import { x } from "../../queue/src/index.ts";'],
    ["a room is entered", "packages/control/test/x.ts", 'import { x } from "../src/inner.ts";'],
    ["a room is entered", "test/x.ts", 'import { x } from "../packages/control/src/inner.ts";'],
    ["only assembly", src, "const x = process.env.HOME;"],
    ["only assembly", "apps/stdio/src/x.ts", "f({ ...process.env });"],
    ["only assembly", src, 'import { env } from "node:process";'],
    ["only assembly", src, "function f() { const { process } = x; }\nf(process.env);"],
    ["no any", src, "const x: any = 1;"],
    ["no any", src, "f(x as any);"],
    ["no any", src, "const s = z.any();"],
    ["no console", src, "console.log(1);"],
    ["no default", src, "export default 1;"],
    ["no export *", src, 'export * from "./y.ts";'],
    ["no enums", src, "const enum X { A }"],
    ["no test is", "packages/control/test/x.test.ts", "it.skip('x', () => {});"],
    ["no test is", "test/x.test.ts", "describe.each([1]).only('x', () => {});\nit.only('y');"],
    ["no module is", src, "// x\n".repeat(401)],
    ["every module", src, "export const x = 1;"],
    ["nothing is", "docs/x.md", `${"TO"}DO: all of it`],
    ["no path of", "docs/x.md", `look into ${["", "home", "ann", "formation"].join("/")}`],
    ["no path of", "docs/x.md", `look into ${ROOT}/test`],
    ["every package.json", src, ""],
    ["every package has", src, ""],
    ["the examples", "packages/contract/README.md", "# x\n```ts\nexport const x: string = 1;\n```\n"],
    ["ARCHITECTURE", src, ""],
    ["ARCHITECTURE", "ARCHITECTURE.md", "| F2 | `packages/gone` | nothing |"],
  ];

  it.each(CAUGHT)("%s… in %s (%#)", async (name, path, text) => {
    const find = RULES.find(({ rule }) => rule.startsWith(name))?.find;
    const offences = (await find?.(treeOf({ [path]: text }))) ?? [];
    expect(offences.length).toBeGreaterThan(0);
  });

  const PASSED: [path: string, text: string][] = [
    [
      "packages/control/src/x.ts",
      '// Says "any" and console.log.\nconst x = "process.env and any"; AbortSignal.any([]);',
    ],
    [
      "packages/control/src/x.ts",
      "// A regex.\nconst x = /console\\.log|any[/]/; const y = 4 / 2; const z = `any $" +
        "{{ a: 1 }.a} any`;",
    ],
    ["packages/control/src/x.ts", '// Down.\nimport { x } from "node:path";'],
    ["packages/control/tsup.config.ts", "export default {};"],
    [
      "packages/control/src/x.ts",
      "// A field.\nfunction f() { const { process } = x; return { ...process.env }; }",
    ],
    ["docs/x.md", "See /home/you/projects and https://example.org/home/ann/x."],
  ];

  it.each(PASSED)("and nothing else: %s %#", async (path, text) => {
    const tree = treeOf({ [path]: text });
    const rules = RULES.slice(
      0,
      RULES.findIndex(({ rule }) => rule.startsWith("every package.json")),
    );
    expect((await Promise.all(rules.map(({ find }) => find(tree)))).flat()).toEqual([]);
  });

  it("imports are found wherever they stand, and not in texts", () => {
    const source =
      'import a from "a";\nexport { b } from \'b\';\nimport "c";\nawait import("d");\ntype E = import("e").E;\n' +
      'require("f");\ncreateRequire(import.meta.url)("g");\n// import "no1"\nconst x = \'import "no2"\';';
    expect(importsOf(source, codeOf(source)).map(({ name, line }) => `${name}${line}`)).toEqual([
      "a1",
      "b2",
      "c3",
      "d4",
      "e5",
      "f6",
      "g7",
    ]);
  });
});
