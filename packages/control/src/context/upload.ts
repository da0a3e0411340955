// A context that was uploaded before. A document of its owner names the archive. The list of the archive's
// files is checked against the include list of the formfile, so that the call, not the build, reports a
// missing file.

import type { Digest } from "@formation-mcp/artifacts";
import type { ContextListing } from "@formation-mcp/artifacts/context";
import type { Principal } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import type { ControlDeps } from "../deps.ts";
import { throwProblems } from "../input.ts";
import { covers, normalizePath, parentDirectories } from "./inline.ts";

const KIND = "context";

/**
 * Returns the digest of an uploaded context that holds every included path. It may hold more files; the build
 * does not see them.
 * @throws FormationError `not_found` for an unknown id and for one of another owner, `invalid` with every
 *   missing path.
 */
export async function uploadedContext(
  deps: ControlDeps,
  principal: Principal,
  id: string,
  include: readonly string[],
  aborted: { signal?: AbortSignal },
): Promise<Digest> {
  const found = await deps.store.documents.get(KIND, id);
  if (!found?.artifact || found.owner !== principal.owner) {
    throw new FormationError("not_found", `There is no uploaded context ${JSON.stringify(id)}.`, {
      field: "context_id",
      remedy:
        "Upload it (PUT /api/contexts) and give the id that comes back; one that no build uses is kept for a day.",
    });
  }
  const digest = found.artifact as Digest;
  if (include.length === 0) return digest;
  const missing = new Map(include.map((pattern, index) => [index, pattern]));
  const { listContext } = await import("@formation-mcp/artifacts/context");
  for await (const { path, type } of listContext(await deps.artifacts.get(digest))) {
    aborted.signal?.throwIfAborted();
    for (const [index, pattern] of missing) if (holds(pattern, path, type)) missing.delete(index);
    if (missing.size === 0) break;
  }
  throwProblems(
    [...missing].map(([index, pattern]) => ({
      field: `formfile.include[${index}]`,
      problem: `${JSON.stringify(pattern)} is not in the uploaded context.`,
    })),
    "Upload a context that holds it under exactly that path, or take it out of include.",
  );
  return digest;
}

/** Whether an entry is covered by an include pattern, or is a symbolic link on the way to it. */
function holds(include: string, path: string, type: ContextListing["type"]): boolean {
  const wanted = normalizePath(include);
  if (covers(wanted === "" ? "." : wanted, path)) return true;
  // The builder resolves the link and finds the file behind it.
  return type === "link" && parentDirectories(wanted).includes(path);
}
