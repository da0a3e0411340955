// The files of a build, in one of three forms: given inline in the call, uploaded before, or a directory of
// this machine that the operator allows. All of them are checked against the include list of the formfile
// before anything is stored. The artifacts package packs and stores the archive. This folder knows where the
// files of a build come from.

import { isAbsolute } from "node:path";
import type { Principal } from "@formation-mcp/auth";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";
import type { ToolInput } from "@formation-mcp/tools";
import type { ControlDeps } from "../deps.ts";
import { readInlineFiles } from "./inline.ts";
import { uploadedContext } from "./upload.ts";

export interface PreparedContext {
  warnings: string[];
  /** Stores the context once and returns its digest; null if the formfile includes no files. */
  store(): Promise<string | null>;
}

/**
 * Checks the files of a build; stores nothing.
 * @throws FormationError `invalid`, `limit`, or `forbidden` for a directory that this caller may not name.
 */
export async function prepareContext(
  deps: ControlDeps,
  principal: Principal,
  formfile: Formfile,
  input: ToolInput<"pack_build">,
  signal: AbortSignal | undefined,
): Promise<PreparedContext> {
  const { context_files: files, context_dir: dir, context_id: id } = input;
  const given = Object.entries({ context_files: files, context_dir: dir, context_id: id }).flatMap(
    ([field, value]) => (value === undefined ? [] : [field]),
  );
  if (given.length > 1) {
    throw new FormationError("invalid", `${given.join(" and ")} can't be given together.`, {
      field: given.at(-1) ?? "",
      remedy: "Give one of them.",
    });
  }
  const aborted = signal ? { signal } : {};
  if (dir !== undefined) return fromDirectory(deps, principal, dir, formfile.include, aborted);
  if (id !== undefined) {
    const digest = await uploadedContext(deps, principal, id, formfile.include, aborted);
    if (formfile.include.length === 0)
      return { warnings: [nothingIncluded("context_id")], store: async () => null };
    return { warnings: [], store: async () => digest };
  }

  const { contents, leftOut } = readInlineFiles(files ?? {}, formfile.include);
  const warnings = unusedWarnings(leftOut, formfile.include);
  if (contents.size === 0) return { warnings, store: async () => null };
  return {
    warnings,
    store: memoize(async () => {
      const { packFiles } = await import("@formation-mcp/artifacts/context");
      const archive = packFiles(
        Object.fromEntries(
          [...contents].map(([path, content]) => [path, { content, executable: isScript(content) }]),
        ),
        formfile.include,
      );
      return (await deps.artifacts.put(archive, { maxBytes: LIMITS.contextBytes, ...aborted })).digest;
    }),
  };
}

async function fromDirectory(
  deps: ControlDeps,
  principal: Principal,
  dir: string,
  include: string[],
  aborted: { signal?: AbortSignal },
): Promise<PreparedContext> {
  if (!principal.local) {
    throw new FormationError("forbidden", "context_dir names a directory of the server's own machine.", {
      field: "context_dir",
      remedy:
        "Upload the directory (PUT /api/contexts) and give its context_id, or send the files in context_files.",
    });
  }
  if (!isAbsolute(dir) || dir.includes("\0")) {
    throw new FormationError("invalid", "context_dir must be an absolute path.", {
      field: "context_dir",
      remedy: "Write the path from / on.",
    });
  }
  const { packDirectory } = await import("@formation-mcp/artifacts/context");
  const packed = await packDirectory({
    dir,
    include,
    allow: [...deps.contextDirs],
    apart: [...deps.ownDirs],
    maxBytes: LIMITS.contextBytes,
    maxFiles: LIMITS.contextFiles,
    ...aborted,
  }).catch((error) => {
    throw inFormfile(error);
  });
  if (include.length === 0) return { warnings: [nothingIncluded("context_dir")], store: async () => null };
  return {
    warnings: secretWarnings(packed.left_out),
    store: memoize(
      async () =>
        (await deps.artifacts.put(packed.stream, { maxBytes: 2 * LIMITS.contextBytes, ...aborted })).digest,
    ),
  };
}

/** Renames the field of an error from `include[0]`, as the archive calls it, to `formfile.include[0]`. */
function inFormfile(error: unknown): unknown {
  if (!(error instanceof FormationError) || !error.details.field?.startsWith("include")) return error;
  const { message, code, details } = error;
  return new FormationError(code, message, { ...details, field: `formfile.${details.field}`, cause: error });
}

function memoize(make: () => Promise<string>): () => Promise<string> {
  let made: Promise<string> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/** A file that begins with `#!` becomes executable. */
function isScript(content: Uint8Array): boolean {
  return content[0] === 0x23 && content[1] === 0x21;
}

function nothingIncluded(field: string): string {
  return `${field} was given, but the formfile includes nothing: name its files under include, or leave it out.`;
}

function unusedWarnings(paths: readonly string[], include: readonly string[]): string[] {
  if (paths.length === 0) return [];
  if (include.length === 0) return [nothingIncluded("context_files")];
  return [`Left out, because include does not name them: ${listPaths(paths)}.`];
}

function secretWarnings(paths: readonly string[]): string[] {
  if (paths.length === 0) return [];
  return [`Left out as likely secrets: ${listPaths(paths)}. Name one under include to take it.`];
}

function listPaths(paths: readonly string[]): string {
  return paths.slice(0, 10).join(", ") + (paths.length > 10 ? ` and ${paths.length - 10} more` : "");
}
