// `formation-mcp`: without a subcommand it serves MCP over standard input and output; the others are loaded when named.

import { serve } from "./commands/serve.ts";
import { HELP } from "./help.ts";
import { VERSION } from "./version.ts";

const COMMANDS = {
  doctor: () => import("./commands/doctor.ts").then((module) => module.doctor),
  worker: () => import("./commands/worker.ts").then((module) => module.worker),
  purge: () => import("./commands/purge.ts").then((module) => module.purge),
  serve: async () => serve,
} as const;

/** A subcommand: the words after its name, and the program's exit code. */
export type Command = (args: string[]) => Promise<number>;

async function main(words: string[]): Promise<number> {
  const [first, ...rest] = words;
  if (first === "help" || words.includes("--help") || words.includes("-h")) {
    process.stdout.write(HELP);
    return 0;
  }
  if (first === "--version" || first === "version") {
    process.stdout.write(`${VERSION}\n`);
    return 0;
  }
  if (first === undefined || first.startsWith("-")) return (await COMMANDS.serve())(words);
  const command = Object.hasOwn(COMMANDS, first) ? COMMANDS[first as keyof typeof COMMANDS] : undefined;
  if (!command) {
    process.stderr.write(
      `formation-mcp: there is no command ${JSON.stringify(first.slice(0, 40))}.\n\n${HELP}`,
    );
    return 2;
  }
  return (await command())(rest);
}

// No top-level await: the bundle's chunks are functions.
main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = 1;
  },
);

/** An error as a person at the terminal wants it: what happened, and what to do. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const remedy = (error as { details?: { remedy?: string } }).details?.remedy;
  return `formation-mcp: ${error.message}${remedy ? `\n  ${remedy}` : ""}`;
}
