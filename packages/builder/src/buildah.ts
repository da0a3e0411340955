// The driver on buildah, runc, slirp4netns and mke2fs. It connects the parts: bases, builds, disks and
// cleanup.

import { FormationError } from "@formation-mcp/contract";
import { BaseImages } from "./base-images.ts";
import { BuildRun } from "./build-run.ts";
import { BuildCleanup } from "./cleanup.ts";
import { Disks, imageId } from "./disks.ts";
import { ImageStore } from "./image-store.ts";
import type { Builder, BuilderReport, BuildHooks, BuildRequest, StoredImage } from "./port.ts";
import { probe } from "./probe.ts";
import { type BuildahOptions, withDefaults } from "./settings.ts";
import { Transfers } from "./transfers.ts";
import { trimCaches } from "./trim-caches.ts";

export type { BuildahOptions } from "./settings.ts";

const BUILD_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$/;

/**
 * Opens the driver on a state directory. Only one process may use the directory at a time.
 * @throws FormationError `unavailable` if the directory cannot be used.
 */
export async function openBuildahBuilder(options: BuildahOptions): Promise<Builder> {
  try {
    return new BuildahBuilder(new ImageStore(withDefaults(options)));
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
  readonly #store: ImageStore;
  readonly #bases: BaseImages;
  readonly #cleanup: BuildCleanup;
  readonly #disks: Disks;
  readonly #transfers: Transfers;

  constructor(store: ImageStore) {
    this.#store = store;
    this.#bases = new BaseImages(store);
    this.#cleanup = new BuildCleanup(store);
    this.#disks = new Disks(store, this.#cleanup);
    this.#transfers = new Transfers(store, this.#cleanup);
  }

  async build(request: BuildRequest, hooks: BuildHooks) {
    if (!BUILD_ID.test(request.id) || request.id.startsWith("busybox-")) {
      throw new FormationError("invalid", `${JSON.stringify(request.id.slice(0, 60))} cannot name a build.`);
    }
    return await new BuildRun(this.#store, this.#bases, this.#cleanup, request, hooks).run();
  }

  async disk(digest: string, diskGb: number, signal: AbortSignal): Promise<string> {
    return await translateErrors(() => this.#disks.get(digest, diskGb, signal));
  }

  async *exportImage(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    try {
      yield* this.#transfers.exportImage(digest, signal);
    } catch (error) {
      throw FormationError.from(error, "The image could not be exported.");
    }
  }

  async importImage(digest: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    await translateErrors(() => this.#transfers.importImage(digest, content, signal));
  }

  async images(): Promise<StoredImage[]> {
    return await translateErrors(async () => {
      const own = this.#store.own();
      const { bytes } = this.#store.sizes(own);
      return own.map((image, index) => ({ digest: `sha256:${image.id}`, bytes: bytes[index] ?? 0 }));
    });
  }

  async remove(digest: string): Promise<void> {
    await translateErrors(async () => {
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
    return await translateErrors(() => trimCaches(this.#store, this.#disks, this.#cleanup, budgetBytes));
  }

  async recover(): Promise<void> {
    await translateErrors(() => this.#cleanup.recover());
  }

  async destroy(): Promise<void> {
    await translateErrors(async () => {
      await this.#cleanup.recover();
      // Some files belong to users of buildah's namespace.
      await this.#store.script('rm -rf -- "$1"', [this.#store.settings.stateDir], { timeoutMs: 120_000 });
    });
  }

  async probe(): Promise<BuilderReport> {
    return await translateErrors(() => probe(this.#store));
  }
}

async function translateErrors<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw FormationError.from(error, "The builder failed.");
  }
}
