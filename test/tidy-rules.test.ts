// The rules of tidy, each against a small tree that breaks it and against what it must let pass.

import { describe, expect, it } from "vitest";
import { functionsIn } from "./support/tidy/functions.ts";
import { codeOf, importsOf } from "./support/tidy/lexer.ts";
import { PACKAGE_RULES, SOURCE_RULES } from "./support/tidy/rules.ts";
import { ROOT, sourceFile, type Tree } from "./support/tidy/tree.ts";

const ALL_RULES = [...SOURCE_RULES, ...PACKAGE_RULES];

/** A tree of the files given; each package without a package.json gets one that declares nothing. */
function treeOf(sources: Record<string, string>): Tree {
  const files = Object.entries(sources).map(([path, text]) => sourceFile(path, text));
  const packages = [...new Set(files.map((file) => file.pkg).filter((pkg) => pkg !== ""))];
  const manifests = packages
    .filter((pkg) => !(`${pkg}/package.json` in sources))
    .map((pkg) => {
      const manifest = JSON.stringify({ name: `@formation-mcp/${pkg.split("/")[1]}` });
      return sourceFile(`${pkg}/package.json`, manifest);
    });
  return { files: [...manifests, ...files], packages };
}

describe("a rule sees what it is for", () => {
  const src = "packages/control/src/x.ts";
  const y = "packages/control/src/y.ts";
  const long = (head: string, lines: number, tail = "}") =>
    `${head}\n${"  f();\n".repeat(lines - 2)}${tail}\n`;
  const wide = "word ".repeat(30);
  const manifestWith = (door: string, to: Record<string, string>) =>
    JSON.stringify({ name: "@formation-mcp/queue", publishConfig: { exports: { [door]: to } } });
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
    ["a package is entered", src, 'import { x } from "../../queue/src/index.ts";'],
    ["a package is entered", "packages/control/test/x.ts", 'import { x } from "../../queue/src/inner.ts";'],
    ["a package is entered", src, 'import { x } from "../testing/inner.ts";'],
    ["a package is entered", src, 'import { x } from "@formation-mcp/queue/testing/conformance";'],
    ["a package is entered", "test/x.ts", 'import { x } from "../packages/control/src/inner.ts";'],
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
    ["every path", "docs/x.md", "See `packages/gone/src/x.ts`."],
    ["ARCHITECTURE", src, ""],
    ["ARCHITECTURE", "ARCHITECTURE.md", "| F2 | `packages/gone` | nothing |"],
    ["no function", src, long("export async function f(a: { b: C }): Promise<Map<D, { e: F }>> {", 101)],
    ["no function", src, `class X extends Y {\n${long("  async *m(): AsyncGenerator<A> {", 101)}}`],
    ["no function", src, long("export const f = <T>(a: T) => {", 101, "};")],
    ["no function", src, `export function f() {\n  return {\n${long("    get(id) {", 101)}  };\n}`],
    ["no function", src, `const f = () => ({\n${"  a: 1,\n".repeat(100)}});`],
    ["no function", src, `const f = (): number =>\n  g(\n${"    1,\n".repeat(100)}  );`],
    ["no line of TypeScript", src, `// ${wide}`],
    ["no line of TypeScript", src, `/**\n * ${wide}\n */`],
    ["no line of TypeScript", src, `const x = 1; // ${wide}`],
    ["no line of TypeScript", src, `f(${"argument, ".repeat(12)}"text");`],
    ["no line of Markdown", "docs/x.md", wide],
    ["no line of Markdown", "docs/x.md", `\`\`\`sh\n${wide}\n\`\`\`\n${wide}`],
    [
      "no published",
      "packages/queue/package.json",
      manifestWith("./unused", { default: "./dist/unused.js" }),
    ],
    ["no published", "packages/queue/package.json", manifestWith("./testing/x", { default: "./dist/x.js" })],
    ["each folder", "packages/control/src/part/a.ts", "// What a is for."],
  ];

  const caught = async (name: string, sources: Record<string, string>) => {
    const find = ALL_RULES.find(({ rule }) => rule.startsWith(name))?.find;
    const offences = (await find?.(treeOf(sources))) ?? [];
    expect(offences.length).toBeGreaterThan(0);
  };
  it.each(CAUGHT)("%s… in %s (%#)", (name, path, text) => caught(name, { [path]: text }));

  const CAUGHT_TOGETHER: [rule: string, sources: Record<string, string>][] = [
    [
      "no folder under",
      Object.fromEntries(Array.from({ length: 26 }, (_, n) => [`packages/control/src/part/${n}.ts`, ""])),
    ],
    [
      "no two folders",
      {
        "packages/control/src/one/a.ts": 'import { x } from "../other/deep/b.ts";',
        "packages/control/src/other/c.ts": 'import type { x } from "../one/d.ts";',
        "packages/control/src/other/deep/b.ts": "",
        "packages/control/src/one/d.ts": "",
      },
    ],
    ["no file of", { [src]: 'import { y } from "./y.ts";', [y]: 'import type { x } from "./x.ts";' }],
    [
      "no published",
      {
        "packages/queue/package.json": manifestWith("./inner", { default: "./dist/inner.js" }),
        "packages/control/test/x.ts": 'import { x } from "@formation-mcp/queue/inner";',
      },
    ],
    [
      "each folder",
      {
        "packages/control/src/part/a.ts": "// What a is for.",
        "packages/control/src/part/b.ts": "// This folder knows parts.",
      },
    ],
  ];
  it.each(CAUGHT_TOGETHER)("%s… among several files (%#)", caught);

  const opening = "// What it is for.\n";
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
    ["packages/control/test/x.ts", 'import { x } from "../src/inner.ts";\nimport { it } from "vitest";'],
    [
      "packages/control/testing/x.ts",
      '// What it is for.\nimport { x } from "../src/inner.ts";\nimport { it } from "vitest";',
    ],
    [
      "packages/control/src/x.ts",
      "// A field.\nfunction f() { const { process } = x; return { ...process.env }; }",
    ],
    [src, long("export function f() {", 100)],
    [src, long("export interface X {", 101)],
    [src, long("export class X {", 101)],
    [src, `export const X = {\n${"  a: 1,\n".repeat(120)}};`],
    ["packages/control/test/x.ts", long("function f() {", 101)],
    [src, `const x =\n  "${wide}";`],
    [src, `const x = \`\n${wide}\`;`],
    [src, `const x = /${"a|".repeat(80)}/;`],
    [src, `f(\`\${${"argument.".repeat(12)}x}\`);`],
    [src, `// See https://example.org/${"a".repeat(100)}.`],
    ["docs/x.md", `| a |\n| --- |\n| ${wide} |`],
    ["docs/x.md", `\`\`\`sh\n${wide}\n\`\`\``],
    ["docs/x.md", `[the specification](https://example.org/${"a".repeat(100)})`],
    ["packages/control/src/part/a.ts", "// What a is for. This folder knows parts."],
    ["docs/x.md", "See /home/you/projects and https://example.org/home/ann/x."],
  ];

  it.each(PASSED)("and nothing else: %s %#", async (path, text) => {
    const tree = treeOf({ [path]: path === src && !text.startsWith("//") ? `${opening}${text}` : text });
    const rules = SOURCE_RULES;
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

  it("functions are found with their names, and nothing else that has braces", () => {
    const source = [
      "export async function one(a: { b: C }): Promise<{ d: E }> {",
      "  if (a) { g(); } else { h(); }",
      "  for (const x of y()) { z(x); }",
      "}",
      "class F extends G {",
      "  #two(a: A, b = { c: 1 }): Map<K, { v: V }> { return a; }",
      "}",
      "const three = async (a: A): Promise<B> => { a(); };",
      "const four = { five(a) { return a; }, six: (a) => a, seven: 7 };",
      "call(eight, (a) => { return a; });",
      "switch (nine(a)) { case b(c): { d(); } }",
      "function ten(): Promise<() => A> {",
      "  a();",
      "}",
    ].join("\n");
    expect(functionsIn(codeOf(source)).map(({ name, line, lines }) => `${name} ${line} ${lines}`)).toEqual([
      "`one` 1 4",
      "`#two` 6 1",
      "`three` 8 1",
      "`five` 9 1",
      "`six` 9 1",
      "This function 10 1",
      "`ten` 12 3",
    ]);
  });
});
