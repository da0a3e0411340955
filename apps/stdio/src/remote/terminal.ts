// Questions on the terminal: yes or no, and secrets, which are not echoed. They go to standard error, because
// standard output is for the result of a command.

import { createInterface } from "node:readline";
import { FormationError } from "@formation-mcp/contract";

/** The part of a terminal that is used here. */
export interface Terminal {
  input: NodeJS.ReadableStream & { isTTY?: boolean; setRawMode?: (raw: boolean) => unknown };
  output: NodeJS.WritableStream;
}

const terminal: Terminal = { input: process.stdin, output: process.stderr };

export function isInteractive({ input }: Terminal = terminal): boolean {
  return input.isTTY === true && input.setRawMode !== undefined;
}

/**
 * Asks for a secret; what is typed is not shown.
 * @throws FormationError `invalid` without a terminal, `cancelled` after Ctrl-C or at the end of the input.
 */
export async function askSecret(question: string, { input, output }: Terminal = terminal): Promise<string> {
  if (!isInteractive({ input, output })) {
    throw new FormationError("invalid", "There is no terminal to ask for the passphrase on.", {
      remedy: "Set FORMATION_KEY_PASSPHRASE, or run this in a terminal.",
    });
  }
  output.write(question);
  input.setRawMode?.(true);
  try {
    return await readSecret(input);
  } finally {
    input.setRawMode?.(false);
    input.pause();
    output.write("\n");
  }
}

/** Asks a yes-or-no question. Only `y` and `yes` mean yes. */
export async function askYes(question: string, { input, output }: Terminal = terminal): Promise<boolean> {
  const lines = createInterface({ input, output, terminal: false });
  try {
    output.write(`${question} [y/N] `);
    const answer = await new Promise<string>((resolve) => {
      lines.once("line", resolve);
      lines.once("close", () => resolve(""));
    });
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}

function readSecret(input: Terminal["input"]): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const end = (settle: () => void) => {
      input.off("data", onData);
      input.off("end", onEnd);
      settle();
    };
    const gaveUp = () => reject(new FormationError("cancelled", "Nothing was entered."));
    const onEnd = () => end(gaveUp);
    const onData = (chunk: Buffer | string) => {
      for (const character of chunk.toString()) {
        if (character === "\r" || character === "\n") return end(() => resolve(text));
        if (character === "\u0003" || character === "\u0004") return end(gaveUp);
        if (character === "\u007f" || character === "\b") text = Array.from(text).slice(0, -1).join("");
        else if (character >= " ") text += character;
      }
    };
    input.on("data", onData);
    input.once("end", onEnd);
    input.resume();
  });
}
