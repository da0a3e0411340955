// Uploads a build's files from a directory of this machine. They are read here, under this machine's rules,
// and the call to the server names them by the id of the upload.

import { isAbsolute } from "node:path";
import type { Client } from "@formation-mcp/client";
import { uploadDirectory } from "@formation-mcp/client/directory";
import { FormationError } from "@formation-mcp/contract";
import { parseFormfile } from "@formation-mcp/formfile";

export interface ContextUploaderOptions {
  client: Pick<Client, "upload">;
  /** Directories below which a caller may name a `context_dir`. */
  allow: readonly string[];
  /** Paths that are never uploaded: keys and sessions. */
  apart: readonly string[];
}

type Input = Record<string, unknown>;

interface Prepared {
  input: Input;
  warnings: string[];
}

/** Uploads that are remembered for repeated calls with the same idempotency key. */
const MAX_REMEMBERED = 100;

/** A function that uploads the context of a `pack_build` and returns the input for the server. */
export function createContextUploader({ client, allow, apart }: ContextUploaderOptions) {
  const uploaded = new Map<string, string>();

  return async (given: Input, signal?: AbortSignal): Promise<Prepared> => {
    const { context_dir: dir, ...input } = given;
    // The server reports what is wrong with the rest of the input, all at once.
    if (typeof dir !== "string" || input["context_files"] !== undefined || input["context_id"] !== undefined)
      return { input: given, warnings: [] };
    if (!isAbsolute(dir) || dir.includes("\0")) {
      throw new FormationError("invalid", "context_dir must be an absolute path.", {
        field: "context_dir",
        remedy: "Write the path from / on.",
      });
    }
    const parsed = parseFormfile(input["formfile"]);
    if (!parsed.ok) return { input, warnings: [] };
    const { include } = parsed.formfile;
    if (include.length === 0) {
      const warning =
        "context_dir was given, but the formfile includes nothing: name its files under include, or leave it out.";
      return { input, warnings: [warning] };
    }
    const key = keyOf(dir, input);
    const before = key === null ? undefined : uploaded.get(key);
    if (before !== undefined) return { input: { ...input, context_id: before }, warnings: [] };
    const made = await uploadDirectory(client, { dir, include, allow, apart, signal }).catch((error) => {
      throw inFormfile(error);
    });
    if (key !== null) remember(uploaded, key, made.context_id);
    return { input: { ...input, context_id: made.context_id }, warnings: likelySecrets(made.left_out) };
  };
}

/**
 * A repeated call gets the same context, because another context_id would be another call with the same
 * idempotency key.
 */
function keyOf(dir: string, { idempotency_key: key, formfile }: Input): string | null {
  return typeof key === "string" ? JSON.stringify([key, dir, formfile]) : null;
}

function remember(uploaded: Map<string, string>, key: string, id: string): void {
  const [oldest] = uploaded.keys();
  if (uploaded.size >= MAX_REMEMBERED && oldest !== undefined) uploaded.delete(oldest);
  uploaded.set(key, id);
}

/** The same error with the field as the caller wrote it. */
function inFormfile(error: unknown): unknown {
  if (!(error instanceof FormationError) || !error.details.field?.startsWith("include")) return error;
  const { message, code, details } = error;
  return new FormationError(code, message, { ...details, field: `formfile.${details.field}`, cause: error });
}

function likelySecrets(paths: readonly string[]): string[] {
  if (paths.length === 0) return [];
  const named = paths.slice(0, 10).join(", ") + (paths.length > 10 ? ` and ${paths.length - 10} more` : "");
  return [`Left out as likely secrets: ${named}. Name one under include to take it.`];
}
