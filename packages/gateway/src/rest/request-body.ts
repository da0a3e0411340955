// Parses the body of a request: bounded in size, UTF-8, one JSON object, bounded in depth. What does not fit
// the schema is reported all at once.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import type { z } from "zod";
import { BODY_FIELD, CONTENT_TYPE_FIELD } from "../http/error-response.ts";

const MAX_DEPTH = 64;
const MAX_PROBLEMS = 20;

/** The error for a body that is too large: 413. */
export function tooLarge(maxBytes: number): FormationError {
  return new FormationError("limit", `The body is larger than ${maxBytes} bytes.`, {
    field: BODY_FIELD,
    remedy: "Send less; large files go to PUT /api/contexts.",
  });
}

/**
 * Reads a JSON object. No body is an empty object.
 * @throws FormationError `invalid` with the field `body` or `content-type`, `limit` with the field `body`.
 */
export async function readJson(
  request: Request,
  maxBytes: number = LIMITS.mcpBodyBytes,
): Promise<Record<string, unknown>> {
  const type = (request.headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
  const coding = request.headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (coding !== "identity") throw unsupported("The body is compressed, which is not taken here.");
  const bytes = await readBytes(request, maxBytes);
  if (bytes.byteLength === 0) return {};
  // Any web page can make a browser send a form without a preflight request (CORS). A form does not have this
  // type.
  if (type !== "application/json") throw unsupported("The body must have the type application/json.");
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalid("The body is not UTF-8.");
  }
  if (depthOf(text) > MAX_DEPTH) throw invalid(`The body is nested deeper than ${MAX_DEPTH} levels.`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid("The body is not JSON.");
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw invalid("The body must be a JSON object.");
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of request.body ?? []) {
    length += part.byteLength;
    if (length > maxBytes) throw tooLarge(maxBytes);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** How deep brackets are nested outside strings; checked before the text goes to a parser. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 0x22) {
      for (at++; at < text.length && text.charCodeAt(at) !== 0x22; at++) {
        if (text.charCodeAt(at) === 0x5c) at++;
      }
    } else if (code === 0x7b || code === 0x5b) {
      depth++;
      if (depth > deepest) deepest = depth;
    } else if (code === 0x7d || code === 0x5d) depth--;
  }
  return deepest;
}

/** @throws FormationError `invalid` with every problem, one per line. */
export function parseInput<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message, code, ...issue }) => {
    const field = fieldName(path);
    if (code !== "unrecognized_keys" || !("keys" in issue)) return { field, text: `${field}: ${message}` };
    const keys = (issue.keys as string[]).slice(0, 10).map((key) => JSON.stringify(key.slice(0, 40)));
    return { field: fieldName([...path, keys[0] ?? ""]), text: `${field}: there is no ${keys.join(", ")}` };
  });
  const [first] = problems;
  throw new FormationError(
    "invalid",
    problems
      .slice(0, MAX_PROBLEMS)
      .map(({ text }) => text.slice(0, 500))
      .join("\n"),
    { field: first?.field ?? "body", remedy: "GET /api/openapi.json says what is taken." },
  );
}

function fieldName(path: readonly PropertyKey[]): string {
  const text = path.map((part) => String(part).slice(0, 60)).join(".");
  return text === "" ? "body" : text;
}

const SEND_JSON = "Send one JSON object as UTF-8 with content-type: application/json.";

function invalid(message: string): FormationError {
  return new FormationError("invalid", message, { field: BODY_FIELD, remedy: SEND_JSON });
}

function unsupported(message: string): FormationError {
  return new FormationError("invalid", message, { field: CONTENT_TYPE_FIELD, remedy: SEND_JSON });
}
