// What each package publishes, as test/snapshots/published.json lists it: its files by name and its bytes in
// all, before compression. The names of chunks have a digest of their content in them, so they are listed as
// one.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { filesIn } from "./packed.ts";

/** What one package publishes. */
export interface PublishedPackage {
  bytes: number;
  files: string[];
}

/** By how much of its size a package may grow or shrink before its line has to be renewed. */
export const SIZE_TOLERANCE = 0.05;

const SNAPSHOT = join(import.meta.dirname, "../snapshots/published.json");

/** What the tarballs, by the package's name, publish. */
export async function publishedOf(
  tarballs: ReadonlyMap<string, string>,
): Promise<Record<string, PublishedPackage>> {
  const published: Record<string, PublishedPackage> = {};
  for (const [name, tarball] of [...tarballs].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const sizes = await filesIn(tarball);
    const names = [...sizes.keys()].map((file) => file.replace(/-[A-Z0-9]{8}\.js$/, "-*.js"));
    const bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
    published[name] = { bytes, files: [...new Set(names)].sort() };
  }
  return published;
}

export function readPublished(): Record<string, PublishedPackage> {
  return JSON.parse(readFileSync(SNAPSHOT, "utf8")) as Record<string, PublishedPackage>;
}

export function writePublished(published: Record<string, PublishedPackage>): void {
  writeFileSync(SNAPSHOT, `${JSON.stringify(published, null, 2)}\n`);
}
