// The package runs anywhere: its sources import nothing but each other. That they use no global that only
// Node has is checked by the compiler: `tsconfig.build.json` knows the types of browsers alone.

import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const SOURCES = new URL("../src/", import.meta.url);

it.each(readdirSync(SOURCES))("src/%s needs neither Node nor another package", (name) => {
  const text = readFileSync(new URL(name, SOURCES), "utf8");
  const imported = [...text.matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)].map(([, from]) => from);
  expect(imported.filter((from) => !from?.startsWith("./"))).toEqual([]);
});
