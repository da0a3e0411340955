// `formation-mcp-http`: serves without a subcommand. A subcommand's module is loaded when it is called.

import { terminalError } from "@formation-mcp/assembly";
import { HELP } from "./help.ts";
import { VERSION } from "./version.ts";

const COMMANDS = {
  serve: () => import("./commands/serve.ts").then((module) => module.serve),
  worker: () => import("./commands/worker.ts").then((module) => module.worker),
  audit: () => import("./commands/audit.ts").then((module) => module.audit),
  bootstrap: () => import("./commands/bootstrap.ts").then((module) => module.bootstrap),
  migrate: () => import("./commands/migrate.ts").then((module) => module.migrate),
  export: () => import("./commands/export-import.ts").then((module) => module.exportTo),
  import: () => import("./commands/export-import.ts").then((module) => module.importFrom),
  "nats-user": () => import("./commands/nats-user.ts").then((module) => module.natsUser),
} as const;

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
      `formation-mcp-http: there is no command ${JSON.stringify(first.slice(0, 40))}.\n\n${HELP}`,
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
    const { text, code } = terminalError("formation-mcp-http", error);
    process.stderr.write(text);
    process.exitCode = code;
  },
);
