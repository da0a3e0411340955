// Writes THIRD_PARTY_NOTICES beside a bundle: who wrote the code in it, and under which license. It goes by
// the bundler's own account of what went in, so it cannot drift. A library that a bundled file carries inside
// itself (its bundler left a `#region` mark) has its license in scripts/licenses, and so has one that is
// published without its license file.

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

interface Metafile {
  outputs: Record<string, { inputs: Record<string, { bytesInOutput: number }> }>;
}

interface Notice {
  title: string;
  text: string;
}

const carried = join(import.meta.dirname, "licenses");
const metafile = resolve("dist/metafile-esm.json");
const bundled = bundledFiles(JSON.parse(readFileSync(metafile, "utf8")) as Metafile);
const notices = new Map<string, Notice>();
for (const file of bundled) {
  const [, directory, name] = /^(.*\/node_modules\/((?:@[^/]+\/)?[^/]+))\//.exec(file) ?? [];
  if (!directory || !name) continue;
  notices.set(name, noticeOf(directory, name));
  for (const [, inner = ""] of readFileSync(file, "utf8").matchAll(innerMark())) {
    if (!notices.has(inner)) notices.set(inner, carriedNotice(inner, name));
  }
}
const ordered = [...notices].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, notice]) => notice);
writeFileSync(
  resolve("dist/THIRD_PARTY_NOTICES"),
  [
    "This program contains the following software of others, each under its own license.\n",
    ...ordered.map(({ title, text }) => `${"-".repeat(80)}\n${title}\n\n${text.trim()}\n`),
  ].join("\n"),
);
rmSync(metafile);

/** The mark of a file from another package. */
function innerMark(): RegExp {
  return /^\/\/ ?#region .*node_modules\/((?:@[^/\s]+\/)?[^/\s]+)\//gm;
}

function bundledFiles({ outputs }: Metafile): string[] {
  const inputs = Object.values(outputs).flatMap((output) => Object.entries(output.inputs));
  return inputs.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([path]) => resolve(path));
}

function noticeOf(directory: string, name: string): Notice {
  const manifest = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as {
    version: string;
    license?: string;
  };
  const files = readdirSync(directory).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file));
  const own = licenseHere(name);
  if (files.length === 0 && !existsSync(own)) {
    throw new Error(`${name} comes without a license file: put it into ${own}.`);
  }
  const paths = files.length === 0 ? [own] : files.sort().map((file) => join(directory, file));
  const text = paths.map((path) => readFileSync(path, "utf8").trim());
  return {
    title: `${name} ${manifest.version} (${manifest.license ?? "see below"})`,
    text: text.join("\n\n"),
  };
}

function carriedNotice(name: string, carrier: string): Notice {
  const file = licenseHere(name);
  if (!existsSync(file)) throw new Error(`${carrier} carries ${name}: put its license into ${file}.`);
  return { title: `${name}, carried by ${carrier}`, text: readFileSync(file, "utf8") };
}

function licenseHere(name: string): string {
  return join(carried, `${name.replace("/", "+")}.txt`);
}
