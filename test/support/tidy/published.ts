// The rule about published doors: each has a user besides tests.

import { codeOf, importsOf } from "./lexer.ts";
import type { Offence } from "./offence.ts";
import type { SourceFile, Tree } from "./tree.ts";

/**
 * No published door leads into `testing/` or is used by tests alone: a program, another package or a README
 * uses it.
 */
export function testOnlyDoors({ files, packages }: Tree): Offence[] {
  const used = new Set(files.filter(isUser).flatMap(namesIn));
  return packages.flatMap((pkg) => {
    const path = `${pkg}/package.json`;
    const manifest = JSON.parse(files.find((file) => file.path === path)?.text ?? "{}") as Manifest;
    const doors = Object.entries(manifest.publishConfig?.exports ?? {}).filter(
      ([, to]) => typeof to !== "string",
    );
    return doors.flatMap(([door, to]) => {
      const name = `${manifest.name}${door.slice(1)}`;
      const isUsed = used.has(name);
      const leadsToTests = /testing|conformance/.test(`${door} ${JSON.stringify(to)}`);
      if (isUsed && !leadsToTests) return [];
      const advice = leadsToTests
        ? `"${door}" is for tests: export it under "formation-source" alone, from testing/.`
        : `Only tests import ${name}: delete this door, and let the package's own tests import by path.`;
      return [{ path, line: 0, advice }];
    });
  });
}

interface Manifest {
  name?: string;
  publishConfig?: { exports?: Record<string, unknown> };
}

/** Sources, READMEs, bench, examples and scripts; no tests. */
function isUser({ path, part }: SourceFile): boolean {
  const isProgram = path.endsWith(".ts") && part !== "test" && part !== "testing";
  return (isProgram && !/\.(?:test|config)\.ts$/.test(path)) || path.endsWith("README.md");
}

function namesIn(file: SourceFile): string[] {
  if (file.path.endsWith(".ts")) return file.imports.map(({ name }) => name);
  const examples = [...file.text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code = ""]) => code);
  return examples.flatMap((code) => importsOf(code, codeOf(code)).map(({ name }) => name));
}
