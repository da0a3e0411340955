// Removes everything that belongs to a build. A build's directory is the journal: it is made first, has the
// build's id as its name, and is removed last. So a directory without a running build is a leftover and is
// removed.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { readFileIfPresent, waitFor } from "@formation-mcp/os";
import { removeLeftCgroups } from "./build-cgroup.ts";
import type { ImageStore } from "./image-store.ts";

const CLEANUP_TIMEOUT = { timeoutMs: 60_000 };
/** The name prefix of transferred images that are not checked yet. */
export const UNCHECKED_IMAGE_PREFIX = "localhost/import-";

export class BuildCleanup {
  readonly #store: ImageStore;
  #active = 0;
  #idle: Promise<void> = Promise.resolve();

  constructor(store: ImageStore) {
    this.#store = store;
  }

  /** Makes a build's directory. The returned function removes it, with the containers and mounts in it. */
  async beginBuild(id: string): Promise<() => Promise<void>> {
    const leave = await this.holdStore();
    const directory = join(this.#store.settings.places.builds, id);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return async () => {
      try {
        await this.#removeBuild(directory);
      } finally {
        await leave();
      }
    };
  }

  /** Marks the store as in use until the returned function is called. */
  async holdStore(): Promise<() => Promise<void>> {
    await this.#idle;
    this.#active += 1;
    return async () => {
      this.#active -= 1;
      // Working containers do not carry their build's name, so they are removed only when no build runs.
      if (this.#active === 0 && this.#hasContainers()) await this.whenIdle(() => this.#removeContainers());
    };
  }

  /** Runs the action only if nothing uses the store. Returns whether it ran. */
  async whenIdle(action: () => Promise<unknown>): Promise<boolean> {
    await this.#idle;
    if (this.#active > 0) return false;
    const work = action();
    this.#idle = work.then(
      () => {},
      () => {},
    );
    await work;
    return true;
  }

  /** Removes a name from an image. buildah deletes an image that has no name left. */
  async removeName(name: string): Promise<void> {
    await this.#store.run(["rmi", name], CLEANUP_TIMEOUT).catch(() => {});
  }

  /** Removes what earlier processes left: first the processes, then what they held. */
  async recover(): Promise<void> {
    const { settings } = this.#store;
    await this.#endProcesses();
    await removeLeftCgroups(settings.cgroupRoot, settings.mark);
    for (const name of readdirSync(settings.places.builds)) {
      await this.#removeBuild(join(settings.places.builds, name));
    }
    for (const name of readdirSync(settings.places.disks)) {
      if (name.endsWith(".tmp")) rmSync(join(settings.places.disks, name), { force: true });
    }
    if (this.#hasContainers()) await this.#removeContainers();
    // An interrupted transfer pulled these images but did not check them.
    const pulled = this.#store
      .images()
      .flatMap(({ names }) => names.filter((name) => name.startsWith(UNCHECKED_IMAGE_PREFIX)));
    for (const name of pulled) await this.removeName(name);
    await this.#unmount(settings.places.root);
  }

  async #removeBuild(directory: string): Promise<void> {
    const runcRoot = join(directory, "runc");
    for (const container of existsSync(runcRoot) ? readdirSync(runcRoot) : []) {
      await this.#store
        .script(
          '"$1" --root "$2" delete --force "$3" 2>&1 || :',
          [this.#store.settings.tools.runc, runcRoot, container],
          CLEANUP_TIMEOUT,
        )
        .catch(() => null);
    }
    await this.#unmount(directory);
    try {
      rmSync(directory, { recursive: true, force: true });
    } catch {
      // Some files belong to users of buildah's namespace.
      await this.#store.script('rm -rf -- "$1"', [directory], CLEANUP_TIMEOUT);
    }
  }

  /** Unmounts everything below a directory, the last mounted first. */
  async #unmount(directory: string): Promise<void> {
    const mounts = readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .map((line) => (line.split(" ")[4] ?? "").replaceAll("\\040", " "))
      .filter((path) => path.startsWith(`${directory}/`))
      .reverse();
    for (const path of mounts)
      await this.#store.script('umount -l -- "$1" || :', [path], CLEANUP_TIMEOUT).catch(() => null);
  }

  #hasContainers(): boolean {
    const text = readFileIfPresent(
      join(this.#store.settings.places.root, "overlay-containers/containers.json"),
    );
    return text !== null && text.trim() !== "" && text.trim() !== "[]" && text.trim() !== "null";
  }

  async #removeContainers(): Promise<void> {
    this.#adoptHalfMadeContainers();
    await this.#store.run(["rm", "--all"], CLEANUP_TIMEOUT).catch(() => null);
  }

  /**
   * Writes the missing record of half-made containers. A buildah that is killed before it writes its record
   * would otherwise treat the container as another program's for ever.
   */
  #adoptHalfMadeContainers(): void {
    const containers = join(this.#store.settings.places.root, "overlay-containers");
    for (const id of readdirSync(containers).filter((name) => /^[0-9a-f]{64}$/.test(name))) {
      const own = join(containers, id, "userdata");
      const record = join(own, "buildah.json");
      if (existsSync(record)) continue;
      mkdirSync(own, { recursive: true, mode: 0o700 });
      writeFileSync(record, JSON.stringify({ type: "buildah 0.0.1", "container-id": id }), { mode: 0o600 });
    }
  }

  /** Kills the processes that have this state directory's mark in their environment, except this process. */
  async #endProcesses(): Promise<void> {
    const mark = `FORMATION_STATE=${this.#store.settings.mark}`;
    const find = () =>
      readdirSync("/proc").filter(
        (name) => /^\d+$/.test(name) && Number(name) !== process.pid && carries(name, mark),
      );
    await waitFor(
      () => {
        const left = find();
        for (const pid of left) {
          try {
            process.kill(Number(pid), "SIGKILL");
          } catch {
            // The process has already ended.
          }
        }
        return left.length === 0;
      },
      { timeoutMs: 20_000, what: "the processes of earlier builds to end" },
    );
  }
}

function carries(pid: string, mark: string): boolean {
  try {
    readlinkSync(`/proc/${pid}/exe`);
    return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(mark);
  } catch {
    return false;
  }
}
