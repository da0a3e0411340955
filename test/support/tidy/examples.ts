// The code in READMEs, compiled against the packages as they are: each block becomes a module in its package
// for a moment.

import { execFile } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Offence } from "./offence.ts";
import type { Tree } from "./tree.ts";

interface Block {
  readme: string;
  /** The line of the README that the block's first line is on. */
  line: number;
  code: string;
  /** Where it is written, from the root. */
  file: string;
}

/** Compiles every ```ts block of every package's README and of the root's. */
export async function examples({ files }: Tree, root: string): Promise<Offence[]> {
  const directory = `.readme-${process.pid}`;
  const blocks = files
    .filter((file) => file.path === "README.md" || file.path === `${file.pkg}/README.md`)
    .flatMap((file) => blocksOf(file.path, file.text, join(file.pkg, directory)));
  const directories = [...new Set(blocks.map((block) => join(root, block.file, "..")))];
  try {
    for (const path of directories) mkdirSync(path, { recursive: true });
    for (const block of blocks) writeFileSync(join(root, block.file), block.code);
    const config = join(root, directory, "tsconfig.json");
    mkdirSync(join(root, directory), { recursive: true });
    directories.push(join(root, directory));
    writeFileSync(
      config,
      JSON.stringify({
        extends: "../tsconfig.base.json",
        files: blocks.map((block) => join("..", block.file)),
      }),
    );
    return judge(await compile(root, config), blocks);
  } finally {
    for (const path of directories) rmSync(path, { recursive: true, force: true });
  }
}

function blocksOf(readme: string, text: string, directory: string): Block[] {
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match, index) => ({
    readme,
    line: text.slice(0, match.index).split("\n").length + 1,
    code: match[1] ?? "",
    file: join(directory, `example-${index}.ts`),
  }));
}

function compile(root: string, config: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const tsc = join(root, "node_modules/.bin/tsc");
    execFile(
      tsc,
      ["-p", config, "--pretty", "false"],
      { cwd: root, timeout: 120_000, maxBuffer: 2 ** 26 },
      (error, stdout, stderr) => {
        if (error && typeof error.code !== "number") reject(error);
        else resolve(stdout + stderr);
      },
    );
  });
}

function judge(output: string, blocks: readonly Block[]): Offence[] {
  return output.split("\n").flatMap((line) => {
    const [, file, row = "1", message = ""] = /^(.+?)\((\d+),\d+\): error (TS\d+: .*)$/.exec(line) ?? [];
    if (file === undefined) {
      return /^error TS/.test(line) ? [{ path: "tsconfig.base.json", line: 0, advice: line }] : [];
    }
    const block = blocks.find((candidate) => file.endsWith(candidate.file));
    if (block)
      return [{ path: block.readme, line: block.line + Number(row) - 1, advice: `The example: ${message}` }];
    return [
      {
        path: file,
        line: Number(row),
        advice: `A README's example imports this, and it does not compile: ${message}`,
      },
    ];
  });
}
