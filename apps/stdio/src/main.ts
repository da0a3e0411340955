// `formation-mcp`: serves MCP over standard input and output without a subcommand. A subcommand's module is
// loaded when it is called.

import type { Command } from "./command.ts";
import { serve } from "./commands/serve.ts";
import { HELP } from "./help.ts";
import { printableLines } from "./printable.ts";
import { VERSION } from "./version.ts";

/** By name; a command's module is loaded when it is called. */
const COMMANDS: Record<string, () => Promise<Command>> = {
  doctor: () => import("./commands/doctor.ts").then((module) => module.doctor),
  worker: () => import("./commands/worker.ts").then((module) => module.worker),
  purge: () => import("./commands/purge.ts").then((module) => module.purge),
  keygen: () => import("./commands/keygen.ts").then((module) => module.keygen),
  login: () => import("./commands/login.ts").then((module) => module.login),
  logout: () => import("./commands/logout.ts").then((module) => module.logout),
  whoami: () => import("./commands/whoami.ts").then((module) => module.whoami),
  token: () => import("./commands/token.ts").then((module) => module.token),
};

async function main(words: string[]): Promise<number> {
  const [first, ...rest] = words;
  const load = first !== undefined && Object.hasOwn(COMMANDS, first) ? COMMANDS[first] : undefined;
  const asked = first === "help" || words.includes("--help") || words.includes("-h");
  if (asked && !load) {
    process.stdout.write(HELP);
    return 0;
  }
  if (first === "--version" || first === "version") {
    process.stdout.write(`${VERSION}\n`);
    return 0;
  }
  if (first === undefined || first.startsWith("-")) return serve(words);
  if (first === "serve") return serve(rest);
  if (!load) {
    process.stderr.write(
      `formation-mcp: there is no command ${JSON.stringify(first.slice(0, 40))}.\n\n${HELP}`,
    );
    return 2;
  }
  const command = await load();
  if (!asked) return command.run(rest);
  process.stdout.write(command.help);
  return 0;
}

// No top-level await: the bundle's chunks are functions.
main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`formation-mcp: ${printableLines(explain(error))}\n`);
    process.exitCode = isUsage(error) ? 2 : 1;
  },
);

/** The text of an error at the terminal: what happened, and what to do. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (isUsage(error)) return `${error.message.split(". ", 1)[0]}.\n  See: formation-mcp --help`;
  const remedy = (error as { details?: { remedy?: string } }).details?.remedy;
  return `${error.message}${remedy ? `\n  ${remedy}` : ""}`;
}

/** Whether the command line itself is wrong, as `parseArgs` says. */
function isUsage(error: unknown): boolean {
  return error instanceof Error && String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
}
