// The SHA-256 of a file, computed once per process and again only when the file changed.

import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";

const known = new Map<string, { state: string; digest: string }>();

/** In hexadecimal. Throws what reading the file throws. */
export function fileDigest(path: string): string {
  const { dev, ino, size, mtimeMs, ctimeMs } = statSync(path);
  const state = [dev, ino, size, mtimeMs, ctimeMs].join(" ");
  const before = known.get(path);
  if (before?.state === state) return before.digest;
  const digest = createHash("sha256").update(readFileSync(path)).digest("hex");
  known.set(path, { state, digest });
  return digest;
}
