// Which paths are valid in a context, and which names are likely to be secrets.

import { editDistance, hasControls } from "@formation-mcp/base";
import { FormationError } from "@formation-mcp/contract";

const MAX_NAME_BYTES = 255;
const MAX_PATH_BYTES = 4096;
const SECRET_NAMES = [/^\.ssh$/, /^\.gnupg$/, /^\.aws$/, /^\.git$/, /^\.env/, /\.pem$/, /\.key$/];

/** What is wrong with a relative path, or null. The path must be in its shortest form. */
export function pathProblem(path: string): string | null {
  if (hasControls(path)) return "holds control characters";
  if (path.startsWith("/")) return "is absolute";
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) return "is too long";
  for (const part of path.split("/")) {
    if (part === "" || part === ".") return "is not in its shortest spelling";
    if (part === "..") return 'climbs with ".."';
    if (Buffer.byteLength(part) > MAX_NAME_BYTES) return "has a part that is too long";
  }
  return null;
}

/** Whether a file or directory of this name is left out unless `include` names it. */
export function looksSecret(name: string): boolean {
  const small = name.toLowerCase();
  return SECRET_NAMES.some((secret) => secret.test(small));
}

/** The shortest form of an include path; "" is the whole context. */
export function normalizePath(path: string): string {
  const absolute = path.startsWith("/") ? "/" : "";
  return (
    absolute +
    path
      .split("/")
      .filter((part) => part !== "" && part !== ".")
      .join("/")
  );
}

/** Quotes untrusted text for a message. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

/** The error for an include path that matches nothing. */
export function matchesNothing(index: number, path: string, candidates: Iterable<string>): FormationError {
  const near = nearest(path, candidates);
  return new FormationError("invalid", `include names ${quote(path)}, which is not in the context.`, {
    field: `include[${index}]`,
    remedy:
      near.length > 0
        ? `Did you mean ${near.map(quote).join(" or ")}? Paths are relative to the context directory.`
        : "Add the file to the context, or take it out of include. Paths are relative to the context directory.",
  });
}

function nearest(path: string, candidates: Iterable<string>): string[] {
  const wanted = path.toLowerCase();
  const base = wanted.slice(wanted.lastIndexOf("/") + 1);
  const scored: { name: string; score: number }[] = [];
  let looked = 0;
  for (const name of candidates) {
    if (++looked > 2000) break;
    const other = name.toLowerCase();
    const otherBase = other.slice(other.lastIndexOf("/") + 1);
    const score = otherBase === base ? 0 : Math.min(distance(other, wanted), distance(otherBase, base) + 1);
    if (score <= Math.max(2, Math.floor(base.length / 3))) scored.push({ name, score });
  }
  return scored
    .sort((a, b) => a.score - b.score || (a.name < b.name ? -1 : 1))
    .slice(0, 3)
    .map(({ name }) => name);
}

/** The edit distance between the last 64 characters of two paths, because paths may be long. */
function distance(a: string, b: string): number {
  return editDistance(a.slice(-64), b.slice(-64));
}
