// The driver on buildah, runc, slirp4netns and mke2fs. It connects the parts: bases, builds, disks and
// cleanup.

import { FormationError } from "@formation-mcp/contract";
import { Bases } from "./base.ts";
import { Build } from "./build.ts";
import { Cleaner } from "./clean.ts";
import { Disks, imageId } from "./disk.ts";
import { Store } from "./image-store.ts";
import type { Builder, BuilderReport, BuildHooks, BuildRequest, StoredImage } from "./port.ts";
import { probe } from "./probe.ts";
import { type BuildahOptions, settle } from "./settings.ts";
import { Transfers } from "./transfer.ts";
import { trim } from "./trim.ts";

export type { BuildahOptions } from "./settings.ts";

const ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;

/**
 * Opens the driver on a state directory. Only one process may use the directory at a time.
 * @throws FormationError `unavailable` if the directory cannot be used.
 */
export async function openBuildahBuilder(options: BuildahOptions): Promise<Builder> {
  try {
    return new BuildahBuilder(new Store(settle(options)));
  } catch (error) {
    if (error instanceof FormationError) throw error;
    throw new FormationError(
      "unavailable",
      `${options.stateDir} cannot be used: ${(error as Error).message}.`,
      {
        cause: error,
        remedy: "Check that the directory can be made and written by the worker's user.",
      },
    );
  }
}

class BuildahBuilder implements Builder {
  readonly #store: Store;
  readonly #bases: Bases;
  readonly #cleaner: Cleaner;
  readonly #disks: Disks;
  readonly #transfers: Transfers;

  constructor(store: Store) {
    this.#store = store;
    this.#bases = new Bases(store);
    this.#cleaner = new Cleaner(store);
    this.#disks = new Disks(store, this.#cleaner);
    this.#transfers = new Transfers(store, this.#cleaner);
  }

  async build(request: BuildRequest, hooks: BuildHooks) {
    if (!ID.test(request.id) || request.id.startsWith("busybox-")) {
      throw new FormationError("invalid", `${JSON.stringify(request.id.slice(0, 60))} cannot name a build.`);
    }
    return await new Build(this.#store, this.#bases, this.#cleaner, request, hooks).run();
  }

  async disk(digest: string, diskGb: number, signal: AbortSignal): Promise<string> {
    return await guarded(() => this.#disks.get(digest, diskGb, signal));
  }

  async *exportImage(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    try {
      yield* this.#transfers.out(digest, signal);
    } catch (error) {
      throw FormationError.from(error, "The image could not be exported.");
    }
  }

  async importImage(digest: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    await guarded(() => this.#transfers.in(digest, content, signal));
  }

  async images(): Promise<StoredImage[]> {
    return await guarded(async () => {
      const own = this.#store.own();
      const { bytes } = this.#store.sizes(own);
      return own.map((image, index) => ({ digest: `sha256:${image.id}`, bytes: bytes[index] ?? 0 }));
    });
  }

  async remove(digest: string): Promise<void> {
    await guarded(async () => {
      const id = imageId(digest);
      this.#disks.removeOf(id);
      const own = () => this.#store.own().find((image) => image.id === id);
      const names = own()?.names ?? [];
      if (names.length === 0) return;
      // Removes names only. With --force, buildah would also remove the image's layers, and break a build
      // that uses one. An image that others are based on stays without a name until the caches are trimmed;
      // buildah reports that as a failure.
      const { stderr } = await this.#store.run(["rmi", ...names], { timeoutMs: 120_000 });
      if (!own()) return;
      const inUse = /used by|in use/.test(stderr);
      throw new FormationError(
        "unavailable",
        inUse
          ? "A build stands on the image."
          : `The image could not be removed: ${stderr.trim().slice(-400)}`,
        { remedy: "Remove it when no build runs that begins with the same steps." },
      );
    });
  }

  async trim(budgetBytes: number): Promise<number> {
    return await guarded(() => trim(this.#store, this.#disks, this.#cleaner, budgetBytes));
  }

  async recover(): Promise<void> {
    await guarded(() => this.#cleaner.recover());
  }

  async destroy(): Promise<void> {
    await guarded(async () => {
      await this.#cleaner.recover();
      // Some files belong to users of buildah's namespace.
      await this.#store.script('rm -rf -- "$1"', [this.#store.settings.stateDir], { timeoutMs: 120_000 });
    });
  }

  async probe(): Promise<BuilderReport> {
    return await guarded(() => probe(this.#store));
  }
}

async function guarded<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw FormationError.from(error, "The builder failed.");
  }
}
