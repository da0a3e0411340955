// `pnpm test:quick`: the tests that need neither root nor an engine, a server, a browser or a build, from the
// sources. It first lists what it leaves out and why: the tags that those files carry.

import { spawnSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { TAGS } from "../vitest.base.ts";

const files = globSync(["packages/*/test/**/*.test.ts", "apps/*/test/**/*.test.ts", "test/**/*.test.ts"], {
  exclude: ["**/node_modules/**"],
});
const tagsOf = (path: string) =>
  [...readFileSync(path, "utf8").matchAll(/^\/\/ @module-tag (\S+)$/gm)].map(([, tag]) => tag);
const tagged = files.map((path) => ({ path, tags: tagsOf(path) })).filter(({ tags }) => tags.length > 0);

console.log(
  `Left out: ${tagged.length} of ${files.length} test files. \`npx -y pnpm@12 test\` runs them all.`,
);
for (const { name, description } of TAGS) {
  const paths = tagged.filter(({ tags }) => tags.includes(name)).map(({ path }) => path);
  console.log(`  ${name} (${description}): ${paths.length}`);
}
for (const { path, tags } of tagged) console.log(`    ${path}: ${tags.join(", ")}`);

const quick = files.filter((path) => !tagged.some((file) => file.path === path));
const { status } = spawnSync("vitest", ["run", "--maxWorkers", "4", ...quick, ...process.argv.slice(2)], {
  stdio: "inherit",
});
process.exit(status ?? 1);
