// The packages as npm would publish them, installed outside of this repository; and other versions of Node.

import { execFile } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";

const ROOT = dirname(dirname(import.meta.dirname));
const run = promisify(execFile);

export interface Packed {
  /** A project with every library installed. */
  libraries: string;
  /** A project with only the programs. */
  programs: string;
  /** Every subpath of every library: `@formation-mcp/queue/embedded`. */
  subpaths: string[];
  /** The tarballs, by the package's name. */
  tarballs: Map<string, string>;
  /** An executable of that major version of Node. */
  node(major: 20 | 22 | 24): string;
  close(): void;
}

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

interface Manifest {
  name: string;
  exports?: Record<string, unknown>;
}

/** Programs, which are run and not imported. */
export const PROGRAMS: readonly string[] = ["formation-mcp", "@formation-mcp/worker", "@formation-mcp/http"];

/** The oldest Node version that the packages support, and the newest that they do not. */
const NODES = { 20: "20.20.2", 22: "22.18.0" } as const;

/** Packs the output of `pnpm build` and installs it with npm. Third-party packages come from the registry. */
export async function installPacked(): Promise<Packed> {
  const directory = mkdtempSync(join(tmpdir(), "formation-packed-"));
  const project = (name: string) => join(directory, name);
  const close = () => rmSync(directory, { recursive: true, force: true });
  try {
    const nodes = install(project("nodes"), {
      20: `npm:node-${process.platform}-${process.arch}@${NODES[20]}`,
      22: `npm:node-${process.platform}-${process.arch}@${NODES[22]}`,
    });
    const tarballs = await pack(project("tarballs"));
    const chosen = (wanted: (name: string) => boolean) =>
      Object.fromEntries(
        [...tarballs].filter(([name]) => wanted(name)).map(([name, file]) => [name, `file:${file}`]),
      );
    const isProgram = (name: string) => PROGRAMS.includes(name);
    await Promise.all([
      nodes,
      install(
        project("libraries"),
        chosen((name) => !isProgram(name)),
      ),
      install(project("programs"), chosen(isProgram)),
    ]);
    lend(project("libraries"));
    return {
      libraries: project("libraries"),
      programs: project("programs"),
      subpaths: subpathsIn(project("libraries")),
      tarballs,
      node: (major) =>
        major === 24 ? process.execPath : join(project("nodes"), "node_modules", `node-${major}`, "bin/node"),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** Runs a program to its end, with only a PATH in its environment, which begins with that Node version. */
export async function runWith(node: string, cwd: string, file: string, ...args: string[]): Promise<Ran> {
  const env = { PATH: [dirname(node), "/usr/bin", "/bin"].join(delimiter), HOME: cwd };
  const ran = run(file, args, { cwd, env, timeout: 60_000 });
  return await ran.then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, stdout, stderr }: Ran) => ({ code, stdout, stderr }),
  );
}

/** A file inside a tarball. */
export async function unpacked(tarball: string, path: string): Promise<string> {
  return (await run("tar", ["-xzOf", tarball, `package/${path}`], { maxBuffer: 64 << 20 })).stdout;
}

/** The files inside a tarball, with their sizes in bytes. */
export async function filesIn(tarball: string): Promise<Map<string, number>> {
  const { stdout } = await run("tar", ["-tvzf", tarball]);
  // -rw-r--r-- 0/0 3106 1985-10-26 08:15 package/dist/index.js
  const lines = stdout.trim().split("\n");
  return new Map(
    lines.map((line) => {
      const [, size, path = ""] = /^\S+ +\S+ +(\d+) \S+ \S+ package\/(.*)$/.exec(line) ?? [];
      return [path, Number(size)];
    }),
  );
}

async function pack(directory: string): Promise<Map<string, string>> {
  mkdirSync(directory);
  const [file, ...first] = (await run("pnpm", ["--version"]).then(
    () => true,
    () => false,
  ))
    ? ["pnpm"]
    : ["npx", "-y", "pnpm@12"];
  const filters = ["--filter", "./packages/*", "--filter", "./apps/*"];
  await run(file as string, [...first, "-r", ...filters, "pack", "--pack-destination", directory], {
    cwd: ROOT,
  });
  const tarballs = new Map<string, string>();
  for (const name of readdirSync(directory)) {
    const tarball = join(directory, name);
    const manifest = JSON.parse(await unpacked(tarball, "package.json")) as Manifest;
    tarballs.set(manifest.name, tarball);
  }
  return tarballs;
}

async function install(directory: string, dependencies: Record<string, string>): Promise<void> {
  mkdirSync(directory);
  const named = Object.entries(dependencies).map(([name, from]) => [
    /^\d/.test(name) ? `node-${name}` : name,
    from,
  ]);
  const manifest = {
    name: "consumer",
    private: true,
    type: "module",
    dependencies: Object.fromEntries(named),
  };
  writeFileSync(join(directory, "package.json"), JSON.stringify(manifest));
  const flags = ["--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"];
  await run("npm", ["install", ...flags], { cwd: directory });
}

/**
 * Additional files of the consumer: the types of Node, which the declarations use, and the example program.
 */
function lend(project: string): void {
  const types = join(project, "node_modules/@types/node");
  mkdirSync(dirname(types), { recursive: true });
  if (!existsSync(types)) symlinkSync(realpathSync(join(ROOT, "node_modules/@types/node")), types);
  cpSync(join(ROOT, "examples/embed.ts"), join(project, "embed.ts"));
}

function subpathsIn(project: string): string[] {
  const scope = join(project, "node_modules/@formation-mcp");
  return readdirSync(scope).flatMap((room) => {
    const manifest = JSON.parse(readFileSync(join(scope, room, "package.json"), "utf8")) as Manifest;
    return Object.keys(manifest.exports ?? {})
      .filter((subpath) => subpath !== "./package.json")
      .map((subpath) => `${manifest.name}${subpath.slice(1)}`);
  });
}
