// How what control returns or throws becomes a tool result: structured content, the same as compact JSON for hosts that
// read text alone, and a stranger's text in a block of its own.

import type { FormationError } from "@formation-mcp/contract";
import type { CallToolResult } from "@modelcontextprotocol/server";

/** Where an error's record stands in a result, for programs; hosts show the text. */
export const ERROR_META_KEY = "formation-mcp/error";

/** A result; `log`, already fenced by control, is not repeated inside the JSON text. */
export function toResult(structuredContent: Record<string, unknown>): CallToolResult {
  const { log, ...rest } = structuredContent;
  if (typeof log !== "string")
    return { content: [text(JSON.stringify(structuredContent))], structuredContent };
  return {
    content: [text(JSON.stringify({ ...rest, log: "(in the next block)" })), text(log)],
    structuredContent,
  };
}

/**
 * An error that the caller can act on. It has no structured content: clients hold that against the output schema, which
 * describes what went well. Its log lines come fenced from control.
 */
export function toErrorResult(error: FormationError): CallToolResult {
  const { code, message, details } = error;
  const { log_tail: log, ...shown } = details;
  const lines = [message];
  if (details.step !== undefined) {
    const exit = details.exit_code === undefined ? "" : `, exit code ${details.exit_code}`;
    lines.push(`Failing step: ${details.step}${exit}.`);
  }
  if (details.field !== undefined && !message.includes(details.field)) lines.push(`Field: ${details.field}.`);
  if (details.remedy) lines.push(`What to do: ${details.remedy}`);
  return {
    content: [text(lines.join("\n")), ...(log?.length ? [text(log.join("\n"))] : [])],
    isError: true,
    _meta: { [ERROR_META_KEY]: { code, ...shown } },
  };
}

function text(content: string): { type: "text"; text: string } {
  return { type: "text", text: content };
}
