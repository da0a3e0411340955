// Which paths are valid in a context, and which names are likely to be secrets.

import { editDistance, hasControls } from "@formation-mcp/base";
import { FormationError } from "@formation-mcp/contract";

const NAME_BYTES = 255;
const PATH_BYTES = 4096;
const SECRETS = [/^\.ssh$/, /^\.gnupg$/, /^\.aws$/, /^\.git$/, /^\.env/, /\.pem$/, /\.key$/];

/** What is wrong with a relative path, or null. The path must be in its shortest form. */
export function objectionTo(path: string): string | null {
  if (hasControls(path)) return "holds control characters";
  if (path.startsWith("/")) return "is absolute";
  if (Buffer.byteLength(path) > PATH_BYTES) return "is too long";
  for (const part of path.split("/")) {
    if (part === "" || part === ".") return "is not in its shortest spelling";
    if (part === "..") return 'climbs with ".."';
    if (Buffer.byteLength(part) > NAME_BYTES) return "has a part that is too long";
  }
  return null;
}

/** Whether a file or directory of this name is left out unless `include` names it. */
export function looksSecret(name: string): boolean {
  const small = name.toLowerCase();
  return SECRETS.some((secret) => secret.test(small));
}

/** The shortest form of an include path; "" is the whole context. */
export function shortest(path: string): string {
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
export function show(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

/** The error for an include path that matches nothing. */
export function nothingThere(index: number, path: string, candidates: Iterable<string>): FormationError {
  const near = nearest(path, candidates);
  return new FormationError("invalid", `include names ${show(path)}, which is not in the context.`, {
    field: `include[${index}]`,
    remedy:
      near.length > 0
        ? `Did you mean ${near.map(show).join(" or ")}? Paths are relative to the context directory.`
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
