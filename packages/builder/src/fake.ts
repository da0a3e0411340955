// A driver without containers, for tests and development: run lines really run, as child processes in a
// directory with the included files. It gives the same steps, results and errors as the real driver, but none
// of its isolation.

import { createHash, randomUUID } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Clock, FormationError, type Image, systemClock } from "@formation-mcp/contract";
import { imageId } from "./disks.ts";
import { BuildAborted, type FakeBase, FakeRun, hashTree, treeBytes } from "./fake/run-line.ts";
import { packTree, unpackTree } from "./image/archive.ts";
import { safeWorkdir } from "./image/containerfile.ts";
import { EMPTY_CONFIG, portsOf, processOf } from "./image/process.ts";
import { parseReference } from "./image/reference.ts";
import type { Builder, BuilderReport, BuildHooks, BuildRequest, StoredImage } from "./port.ts";
import { stageIncludes } from "./stage-includes.ts";

export interface FakeBuilderOptions {
  stateDir: string;
  clock?: Clock;
  /**
   * Base images in addition to `busybox` and `scratch`, by normalized reference, with the parts of their
   * configuration that matter.
   */
  bases?: Record<string, FakeBase>;
  /** The minimum time of each step, in milliseconds. Default 0. */
  stepMs?: number;
}

/**
 * Opens the driver. A disk is a JSON file, `{ "rootfs": "<directory>" }`; a fake hypervisor copies the
 * directory.
 */
export async function openFakeBuilder(options: FakeBuilderOptions): Promise<Builder> {
  return new FakeBuilder(options);
}

class FakeBuilder implements Builder {
  readonly #clock: Clock;
  readonly #bases: Record<string, FakeBase>;
  readonly #stepMs: number;
  readonly #at: { images: string; layers: string; disks: string; builds: string };

  constructor(options: FakeBuilderOptions) {
    this.#clock = options.clock ?? systemClock;
    this.#bases = { busybox: { cmd: ["/bin/sh"] }, scratch: {}, ...options.bases };
    this.#stepMs = options.stepMs ?? 0;
    const stateDir = resolve(options.stateDir);
    this.#at = {
      images: join(stateDir, "images"),
      layers: join(stateDir, "layers"),
      disks: join(stateDir, "disks"),
      builds: join(stateDir, "builds"),
    };
    for (const path of Object.values(this.#at)) mkdirSync(path, { recursive: true, mode: 0o700 });
  }

  async build(request: BuildRequest, hooks: BuildHooks): Promise<Image> {
    const directory = join(this.#at.builds, request.id);
    mkdirSync(directory, { recursive: true });
    const run = new FakeRun(request, hooks, directory, this.#stepMs);
    try {
      return await this.#build(request, run, directory);
    } catch (error) {
      throw run.explain(error);
    } finally {
      await run.close();
      rmSync(directory, { recursive: true, force: true });
    }
  }

  async disk(digest: string, diskGb: number, signal: AbortSignal): Promise<string> {
    await this.#pass(signal);
    if (signal.aborted) throw new FormationError("cancelled", "Making the disk was cancelled.");
    const id = imageId(digest);
    const rootfs = join(this.#at.images, id, "rootfs");
    if (!existsSync(rootfs)) {
      throw new FormationError("not_found", "This node does not hold the image any more.", {
        remedy: "Build the formfile again.",
      });
    }
    if (treeBytes(rootfs) > diskGb * 1024 ** 3) {
      throw new FormationError("limit", `The image does not fit on a disk of disk_gb ${diskGb}.`, {
        field: "resources.disk_gb",
        step: "disk",
        remedy: "Raise resources.disk_gb, or make the image smaller.",
      });
    }
    const path = join(this.#at.disks, `${id}-${diskGb}.img`);
    const now = this.#clock.now() / 1000;
    if (!existsSync(path)) {
      const temporary = `${path}.${randomUUID()}.tmp`;
      writeFileSync(temporary, JSON.stringify({ rootfs }), { mode: 0o444 });
      chmodSync(temporary, 0o444);
      renameSync(temporary, path);
    }
    utimesSync(path, now, now);
    return path;
  }

  async *exportImage(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const image = join(this.#at.images, imageId(digest));
    if (!existsSync(image))
      throw new FormationError("not_found", "This node does not hold the image any more.");
    await this.#pass(signal);
    yield* packTree(image, signal);
  }

  async importImage(digest: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const id = imageId(digest);
    const directory = join(this.#at.builds, `import-${randomUUID()}`);
    mkdirSync(directory);
    try {
      await this.#pass(signal);
      await unpackTree(content, directory, signal);
      // The fake's digest is not a hash of the content, so the archive carries it.
      if (readOrNull(join(directory, "id")) !== id) {
        throw new FormationError("invalid", "The archive holds another image than it should.");
      }
      if (!existsSync(join(this.#at.images, id))) renameSync(directory, join(this.#at.images, id));
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }

  async images(): Promise<StoredImage[]> {
    return readdirSync(this.#at.images).map((id) => ({
      digest: `sha256:${id}`,
      bytes: treeBytes(join(this.#at.images, id, "rootfs")),
    }));
  }

  async remove(digest: string): Promise<void> {
    const id = imageId(digest);
    for (const name of readdirSync(this.#at.disks)) {
      if (name.startsWith(id)) rmSync(join(this.#at.disks, name), { force: true });
    }
    rmSync(join(this.#at.images, id), { recursive: true, force: true });
  }

  async trim(budgetBytes: number): Promise<number> {
    const disks = readdirSync(this.#at.disks).map((name) => {
      const path = join(this.#at.disks, name);
      const { blocks, mtimeMs } = statSync(path);
      return { path, bytes: blocks * 512, at: mtimeMs };
    });
    const layers = readdirSync(this.#at.layers).map((name) => {
      const path = join(this.#at.layers, name);
      return { path, bytes: treeBytes(path), at: statSync(path).mtimeMs };
    });
    const oldest = (a: { at: number }, b: { at: number }) => a.at - b.at;
    let total = [...disks, ...layers].reduce((sum, one) => sum + one.bytes, 0);
    let freed = 0;
    for (const one of [...disks.sort(oldest), ...layers.sort(oldest)]) {
      if (total <= budgetBytes) break;
      rmSync(one.path, { recursive: true, force: true });
      total -= one.bytes;
      freed += one.bytes;
    }
    return freed;
  }

  async recover(): Promise<void> {
    for (const name of readdirSync(this.#at.builds)) {
      await FakeRun.endLeft(join(this.#at.builds, name));
      rmSync(join(this.#at.builds, name), { recursive: true, force: true });
    }
    for (const name of readdirSync(this.#at.disks)) {
      if (name.endsWith(".tmp")) rmSync(join(this.#at.disks, name), { force: true });
    }
  }

  async destroy(): Promise<void> {
    rmSync(dirname(this.#at.images), { recursive: true, force: true });
  }

  async probe(): Promise<BuilderReport> {
    const none = "the fake driver runs lines as plain child processes";
    return {
      driver: "fake",
      version: "1",
      ready: true,
      problems: [],
      enforced: [
        ...[
          "memory limit",
          "cpu limit",
          "pids limit",
          "network filter",
          "no host root",
          "process isolation",
        ].map((what) => ({ what, enforced: false, how: none })),
        { what: "disk limit", enforced: true, how: "measured while it runs and at the end" },
        { what: "time limit", enforced: true, how: "the process tree is ended" },
      ],
    };
  }

  /** Waits for a step's minimum time, or until the signal aborts. */
  async #pass(signal: AbortSignal): Promise<void> {
    if (this.#stepMs > 0) await delay(this.#stepMs, undefined, { signal }).catch(() => {});
  }

  async #build(request: BuildRequest, run: FakeRun, directory: string): Promise<Image> {
    const { formfile } = request;
    await run.step("pull", `Looking for ${formfile.from}`, 0);
    const reference = parseReference(formfile.from);
    const base = this.#bases[reference.name];
    if (!base) {
      throw new FormationError("not_found", `There is no base image ${reference.name}.`, {
        field: "from",
        step: "pull",
        remedy: 'Check the spelling and the tag; "busybox" needs no registry.',
      });
    }
    if (formfile.from === "scratch" && formfile.run.length > 0) {
      throw new FormationError(
        "invalid",
        "Nothing can be run in an image made from scratch: it has no shell.",
        {
          field: "run",
          remedy: 'Take a base that has /bin/sh, such as "busybox", or remove run.',
        },
      );
    }
    const config = { ...EMPTY_CONFIG, ...base };
    const workdir = safeWorkdir(config.workdir) ?? "/app";
    const process = processOf(formfile, config, workdir);
    const rootfs = join(directory, "rootfs");
    const work = join(rootfs, workdir);
    await run.step("include", `Including files in ${workdir}`, 0.1);
    mkdirSync(work, { recursive: true });
    await stageIncludes(formfile.include, request.contextDir, work, request.limits.disk_bytes, run.signal);
    let key = hash(request.owner, reference.name, workdir, JSON.stringify(formfile.env), hashTree(work));
    for (const [index, line] of formfile.run.entries()) {
      await run.step(
        `run ${index + 1}/${formfile.run.length}`,
        `Running line ${index + 1} of ${formfile.run.length}`,
        (index + 1) / (formfile.run.length + 1),
      );
      key = hash(key, line);
      const layer = join(this.#at.layers, key);
      if (!request.noCache && existsSync(layer)) {
        replaceTree(layer, rootfs);
        continue;
      }
      await run.line(line, rootfs, work, process.env);
      replaceTree(rootfs, layer);
    }
    if (run.signal.aborted) throw new BuildAborted();
    run.checkDisk(rootfs);
    await run.step("commit", "Keeping the image", null);
    // An uncached build makes a new image even of the same lines, as the real driver does (an image has its
    // creation time).
    const digestFile = join(this.#at.layers, `${key}.digest`);
    const known = request.noCache ? null : readOrNull(digestFile);
    const id = known ?? hash(key, randomUUID());
    writeFileSync(digestFile, id, { mode: 0o600 });
    const kept = this.#keepImage(id, rootfs, directory);
    return {
      digest: `sha256:${id}`,
      bytes: treeBytes(join(kept, "rootfs")),
      process,
      expose: portsOf(formfile, config),
      base: { reference: reference.name, digest: `sha256:${hash(reference.name)}` },
    };
  }

  /**
   * Moves a root file system to the images, unless the image is there already. Returns the image's directory.
   */
  #keepImage(id: string, rootfs: string, directory: string): string {
    const kept = join(this.#at.images, id);
    if (!existsSync(kept)) {
      const temporary = join(directory, "image");
      mkdirSync(temporary);
      renameSync(rootfs, join(temporary, "rootfs"));
      writeFileSync(join(temporary, "id"), id, { mode: 0o600 });
      renameSync(temporary, kept);
    }
    return kept;
  }
}

function hash(...parts: string[]): string {
  const sum = createHash("sha256");
  for (const part of parts) sum.update(`${part.length}:`).update(part);
  return sum.digest("hex");
}

function replaceTree(from: string, to: string): void {
  const temporary = `${to}.${randomUUID()}`;
  cpSync(from, temporary, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
  rmSync(to, { recursive: true, force: true });
  try {
    renameSync(temporary, to);
  } catch {
    rmSync(temporary, { recursive: true }); // another build of the same lines came first
  }
}

function readOrNull(path: string): string | null {
  return existsSync(path) ? readFileSync(path, "utf8") : null;
}
