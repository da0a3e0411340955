// Recognizes a Dockerfile that was passed as a formfile, a common mistake, and shows how to write a formfile.
import { isImage } from "./image-reference.ts";

const INSTRUCTION = /^[ \t]*(?:FROM|ARG)[ \t]+(?![:\s])(\S{1,255})/i;

/** The issue for a text whose first instruction is a Dockerfile's; undefined for any other text. */
export function dockerfileIssue(text: string): { at: number; problem: string; remedy: string } | undefined {
  let at = 0;
  for (;;) {
    const end = text.indexOf("\n", at);
    const line = text.slice(at, end < 0 ? text.length : end);
    const found = INSTRUCTION.exec(line);
    if (found !== null) {
      const word = found[1] ?? "";
      const image = /from/i.test(found[0]) && isImage(word) ? word : "debian:12";
      return {
        at: at + (line.length - line.trimStart().length),
        problem: "This is a Dockerfile; a formfile is YAML or JSON.",
        remedy: `Write from: "${image}", then run: ["…"] for RUN, include: ["…"] for COPY, env: {"KEY": "value"} for ENV, expose: [8080] for EXPOSE and entrypoint: ["…"] for ENTRYPOINT or CMD.`,
      };
    }
    if (end < 0 || !/^\s*(?:#|$)/.test(line)) return undefined;
    at = end + 1;
  }
}
