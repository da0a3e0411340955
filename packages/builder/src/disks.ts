// Makes disks from images: one ext4 file system of the full size in a sparse file. A disk is made once per
// image and size, is either complete or absent, and the least recently used are removed first.

import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { BuildCleanup } from "./cleanup.ts";
import type { ImageStore } from "./image-store.ts";
import { freeBytes } from "./limit-watch.ts";

const MAKE_DISK_TIMEOUT_MS = 15 * 60_000;
const GiB = 1024 ** 3;
/** `$1` image, `$2` file, `$3` the buildah program, then buildah's global options. */
const MAKE_DISK_SCRIPT = `image=$1 file=$2 buildah=$3; shift 3
container=$("$buildah" "$@" from --pull=never "$image") || exit 90
trap '"$buildah" "$@" rm "$container" >/dev/null' EXIT
mount=$("$buildah" "$@" mount "$container") || exit 90
mke2fs -q -F -t ext4 -m 0 -E lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0 -d "$mount" "$file" || exit 91
"$buildah" "$@" umount "$container" >/dev/null`;

export class Disks {
  readonly #store: ImageStore;
  readonly #cleanup: BuildCleanup;
  readonly #making = new Map<string, { work: Promise<string>; waiting: number; stop: AbortController }>();

  constructor(store: ImageStore, cleanup: BuildCleanup) {
    this.#store = store;
    this.#cleanup = cleanup;
  }

  /** The path of a disk, which is made if it is missing. Concurrent calls for the same disk share one run. */
  async get(digest: string, diskGb: number, signal: AbortSignal): Promise<string> {
    if (signal.aborted) throw cancelled();
    const id = imageId(digest);
    const path = join(this.#store.settings.places.disks, `${id}-${diskGb}.img`);
    if (existsSync(path)) {
      this.#touch(path);
      return path;
    }
    let making = this.#making.get(path);
    if (!making) {
      const stop = new AbortController();
      const work = this.#make(id, diskGb, path, stop.signal).finally(() => this.#making.delete(path));
      work.catch(() => {});
      making = { work, waiting: 0, stop };
      this.#making.set(path, making);
    }
    return await this.#await(making, signal);
  }

  /** The disks, least recently used first. */
  list(): { path: string; bytes: number; image: string }[] {
    const directory = this.#store.settings.places.disks;
    return readdirSync(directory)
      .filter((name) => name.endsWith(".img"))
      .map((name) => {
        const path = join(directory, name);
        const found = statSync(path, { throwIfNoEntry: false });
        return { path, image: name.slice(0, 64), bytes: (found?.blocks ?? 0) * 512, at: found?.mtimeMs ?? 0 };
      })
      .sort((a, b) => a.at - b.at);
  }

  removeOf(id: string): void {
    for (const disk of this.list()) if (disk.image === id) rmSync(disk.path, { force: true });
  }

  async #await(
    making: { work: Promise<string>; waiting: number; stop: AbortController },
    signal: AbortSignal,
  ): Promise<string> {
    making.waiting += 1;
    let onAbort = () => {};
    const aborted = new Promise<never>((_, reject) => {
      onAbort = () => {
        // The last waiting caller cancels the run and returns when it has ended.
        if (making.waiting === 1) making.stop.abort();
        const left = making.waiting === 1 ? making.work.catch(() => {}) : Promise.resolve();
        void left.then(() => reject(cancelled()));
      };
      signal.addEventListener("abort", onAbort, { once: true });
    });
    try {
      return await Promise.race([making.work, aborted]);
    } finally {
      making.waiting -= 1;
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #make(id: string, diskGb: number, path: string, signal: AbortSignal): Promise<string> {
    const { settings } = this.#store;
    const image = this.#store.images().find((one) => one.id === id);
    if (!image) {
      throw new FormationError("not_found", "This node does not hold the image any more.", {
        remedy: "Build the formfile again.",
      });
    }
    const bytes = this.#store.sizes([image]).bytes[0] ?? 0;
    if (bytes > diskGb * GiB) throw tooSmall(diskGb);
    if (freeBytes(settings.stateDir) - bytes < settings.reserveBytes) throw diskFull();
    const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
    const leave = await this.#cleanup.holdStore();
    try {
      writeFileSync(temporary, "", { mode: 0o600 });
      truncateSync(temporary, Math.floor(diskGb * GiB));
      const { buildah } = settings.tools;
      const result = await this.#store.script(
        MAKE_DISK_SCRIPT,
        [id, temporary, buildah, ...this.#store.globals()],
        {
          timeoutMs: MAKE_DISK_TIMEOUT_MS,
          signal,
        },
      );
      if (result.code !== 0) throw mkfsError(result.code, result.stderr, diskGb);
      chmodSync(temporary, 0o444);
      renameSync(temporary, path);
      return path;
    } finally {
      rmSync(temporary, { force: true });
      await leave();
    }
  }

  #touch(path: string): void {
    const now = this.#store.settings.clock.now() / 1000;
    try {
      utimesSync(path, now, now);
    } catch {
      // It was removed meanwhile; the caller's link() will fail.
    }
  }
}

/** The store's image id that a digest names. */
export function imageId(digest: string): string {
  const id = /^(?:sha256:)?([a-f0-9]{64})$/.exec(digest)?.[1];
  if (id) return id;
  throw new FormationError("invalid", `${JSON.stringify(digest.slice(0, 80))} is not an image digest.`, {
    remedy: "Use the digest that the build returned.",
  });
}

function mkfsError(code: number, stderr: string, diskGb: number): FormationError {
  if (/No space left on device/.test(stderr)) return diskFull();
  if (/Could not allocate (block|inode)|No free space/i.test(stderr)) return tooSmall(diskGb);
  const said = stderr.trim().split("\n").slice(-3).join(" ").slice(0, 600);
  return new FormationError("unavailable", `The disk could not be made (code ${code}): ${said}`, {
    step: "disk",
    remedy: "Try again; if it happens again, look at the worker's log.",
  });
}

function tooSmall(diskGb: number): FormationError {
  return new FormationError("limit", `The image does not fit on a disk of disk_gb ${diskGb}.`, {
    field: "resources.disk_gb",
    step: "disk",
    remedy: "Raise resources.disk_gb, or make the image smaller.",
  });
}

function diskFull(): FormationError {
  return new FormationError("unavailable", "The node's disk is too full to make the machine's disk.", {
    step: "disk",
    remedy: "Have the operator free or add disk space, then try again.",
  });
}

function cancelled(): FormationError {
  return new FormationError("cancelled", "Making the disk was cancelled.");
}
