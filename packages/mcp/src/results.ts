// Tool results: what `control` returns or throws, as structured content, as compact JSON text for hosts that
// read text only, and with untrusted text in a text block of its own.

import type { FormationError } from "@formation-mcp/contract";
import type { CallToolResult } from "@modelcontextprotocol/server";

/** The `_meta` key of an error's record, for programs; hosts show the text. */
export const ERROR_META_KEY = "formation-mcp/error";

/**
 * The result of a call that succeeded. `log` is already fenced by control; it gets its own text block and is
 * not repeated in the JSON text.
 */
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
 * The result of a call that failed: message, failing step, field and remedy as text. The log lines are
 * already fenced by control; they get their own text block.
 * It has no structured content, because clients check that against the tool's output schema, which describes
 * success.
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
