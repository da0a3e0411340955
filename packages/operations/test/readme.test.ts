import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

it("the example of the README runs", async () => {
  const readme = await readFile(`${root}/README.md`, "utf8");
  const example = /```ts\n([\s\S]*?)```/.exec(readme)?.[1] ?? "";
  const directory = await mkdtemp(join(tmpdir(), "operations-"));
  try {
    const there = example.replace('"operations.db"', JSON.stringify(join(directory, "operations.db")));
    await promisify(execFile)(
      process.execPath,
      ["--conditions=formation-source", "--input-type=module-typescript", "--eval", there],
      { cwd: root, timeout: 30_000 },
    );
  } finally {
    await rm(directory, { recursive: true });
  }
}, 40_000);
