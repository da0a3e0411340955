import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

it("the README's example compiles", () => {
  const readme = readFileSync(here("../README.md"), "utf8");
  expect(readme.split("\n").length).toBeLessThanOrEqual(41);
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
  const directory = here("./readme-example");
  mkdirSync(directory, { recursive: true });
  try {
    writeFileSync(`${directory}/example.ts`, example);
    writeFileSync(
      `${directory}/tsconfig.json`,
      JSON.stringify({ extends: "../../tsconfig.json", include: ["example.ts"] }),
    );
    execFileSync("tsc", ["-p", directory], { stdio: "pipe" });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);
