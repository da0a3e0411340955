import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

it("the example in the README runs", async () => {
  const readme = await readFile(`${root}/README.md`, "utf8");
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
  expect(example).toContain("@formation-mcp/formfile");
  await promisify(execFile)(
    process.execPath,
    ["--conditions=formation-source", "--input-type=module-typescript", "--eval", example],
    { cwd: root, timeout: 30_000 },
  );
}, 40_000);
