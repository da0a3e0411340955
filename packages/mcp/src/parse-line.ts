// One line of the stdio transport: a JSON-RPC message, or the error to answer it with. An error names the
// line's id if the line shows one, and quotes nothing else from it.

import { isUtf8 } from "node:buffer";
import { type JSONRPCMessage, ProtocolErrorCode, parseJSONRPCMessage } from "@modelcontextprotocol/server";
import type { Line } from "./lines.ts";

export type ParsedLine =
  | { kind: "message"; message: JSONRPCMessage }
  | { kind: "blank" }
  | { kind: "error"; id: string | number | null; code: number; message: string };

const ID = String.raw`"id"\s*:\s*(-?\d{1,15}|"[^"\\]{1,200}")`;
/**
 * The id as one of the first members of a message (only `jsonrpc` and `method` come before it), or as the
 * last one.
 */
const FIRST_ID = new RegExp(String.raw`^\s*\{\s*(?:"(?:jsonrpc|method)"\s*:\s*"[^"\\]*"\s*,\s*)*${ID}`);
const LAST_ID = new RegExp(String.raw`${ID}\s*\}\s*$`);

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** @param maxBytes the size limit that {@link Line.tooLong} refers to, for the error's text. */
export function parseLine(line: Line, maxBytes: number): ParsedLine {
  if (line.tooLong) {
    const message = `The message is longer than ${maxBytes} bytes: send less, or use context_dir where it is allowed.`;
    return { kind: "error", id: idOfEnds(line), code: ProtocolErrorCode.InvalidRequest, message };
  }
  if (!isUtf8(line.bytes)) return notJson("The message is not UTF-8.");
  const text = decoder.decode(line.bytes);
  if (text.trim() === "") return { kind: "blank" };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return notJson("The message is not JSON.");
  }
  try {
    return { kind: "message", message: parseJSONRPCMessage(value) };
  } catch {
    const message = Array.isArray(value)
      ? "MCP has no batches: send each message on a line of its own."
      : "The message is not JSON-RPC 2.0 as MCP has it.";
    return { kind: "error", id: idOf(value), code: ProtocolErrorCode.InvalidRequest, message };
  }
}

function notJson(message: string): ParsedLine {
  return { kind: "error", id: null, code: ProtocolErrorCode.ParseError, message };
}

function idOf(value: unknown): string | number | null {
  const id = typeof value === "object" && value !== null && "id" in value ? value.id : null;
  return typeof id === "string" || (typeof id === "number" && Number.isSafeInteger(id)) ? id : null;
}

function idOfEnds(line: { begin: Uint8Array; end: Uint8Array }): string | number | null {
  const found = FIRST_ID.exec(decoder.decode(line.begin))?.[1] ?? LAST_ID.exec(decoder.decode(line.end))?.[1];
  return found === undefined ? null : (JSON.parse(found) as string | number);
}
