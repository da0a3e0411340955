// Moves images between nodes as OCI archives (OCI Image Layout 1.0). We choose the name of what arrives, not
// the archive. It is kept only if it is the image that was asked for: an image's id is the hash of its
// configuration, which lists its layers. buildah 1.28 trusts the first and never checks the second, so the
// archive is checked before buildah reads it, and the unpacked layers are compared afterwards.

import { createHash, randomBytes } from "node:crypto";
import { lstatSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { FormationError } from "@formation-mcp/contract";
import { noSpace } from "./build-errors.ts";
import { type BuildCleanup, UNCHECKED_IMAGE_PREFIX } from "./cleanup.ts";
import { imageId } from "./disks.ts";
import { packTree, requirePlain, unpackTree } from "./image/archive.ts";
import { memberOf } from "./image/config.ts";
import { OWN_IMAGE_NAME } from "./image/reference.ts";
import type { ImageStore } from "./image-store.ts";
import { isNearlyFull } from "./limit-watch.ts";

const TRANSFER_TIMEOUT_MS = 15 * 60_000;
const DISK_CHECK_MS = 500;
const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const LAYER_TYPE = /^application\/vnd\.oci\.image\.layer\.v1\.tar(\+gzip|\+zstd)?$/;
/** More than any index, manifest or configuration has. These documents are read into memory. */
const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

export class Transfers {
  readonly #store: ImageStore;
  readonly #cleanup: BuildCleanup;

  constructor(store: ImageStore, cleanup: BuildCleanup) {
    this.#store = store;
    this.#cleanup = cleanup;
  }

  /** Exports an image as an archive. The same image gives the same bytes. */
  async *exportImage(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const id = imageId(digest);
    const { name, layout, finish } = await this.#begin("export");
    try {
      if (!this.#store.images().some((image) => image.id === id)) {
        throw new FormationError("not_found", "This node does not hold the image any more.", {
          remedy: "Build the formfile again.",
        });
      }
      await this.#runBuildah(["push", "--quiet", "--compression-format", "zstd", id, `oci:${name}`], signal);
      yield* packTree(layout, signal);
    } finally {
      await finish();
    }
  }

  /**
   * Imports an image.
   * @throws FormationError `invalid` if the archive holds another image, or none.
   */
  async importImage(digest: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const id = imageId(digest);
    const { name, layout, finish } = await this.#begin("import");
    // buildah derives an image's name from the path it is pulled from.
    const pulled = `${UNCHECKED_IMAGE_PREFIX}${name.slice("import-".length)}:latest`;
    try {
      await this.#abortWhenFull(signal, (ending) => unpackTree(content, layout, ending));
      requirePlain(layout);
      const { index, layers } = readLayout(layout, id);
      writeFileSync(join(layout, "index.json"), JSON.stringify(index));
      await this.#runBuildah(["pull", "--quiet", `oci:${name}`], signal);
      const image = this.#store.byName(pulled);
      if (image?.id !== id || !isDeepStrictEqual(this.#store.layersOf(image), layers)) throw wrongImage();
      await this.#store.runChecked(["tag", id, `${OWN_IMAGE_NAME}:${id}`], { timeoutMs: 60_000, signal });
    } finally {
      if (this.#store.byName(pulled)) await this.#cleanup.removeName(pulled);
      await finish();
    }
  }

  /**
   * Makes a directory for one transfer. Its name cannot be guessed, so no build can use what arrives as a
   * base.
   */
  async #begin(direction: "export" | "import") {
    const name = `${direction}-${randomBytes(12).toString("hex")}`;
    const finish = await this.#cleanup.beginBuild(name);
    return { name, layout: join(this.#store.settings.places.builds, name), finish };
  }

  /**
   * Runs buildah, and ends it if the disk fills up: the size of a packed layer is known only once it is
   * unpacked.
   */
  async #runBuildah([command = "", ...rest]: string[], signal: AbortSignal): Promise<void> {
    await this.#abortWhenFull(signal, async (ending) => {
      const options = {
        timeoutMs: TRANSFER_TIMEOUT_MS,
        signal: ending,
        cwd: this.#store.settings.places.builds,
      };
      const result = await this.#store.run([command, ...this.#store.policy(), ...rest], options);
      if (result.code === 0) return;
      const said = result.stderr.trim().split("\n").at(-1)?.slice(0, 400) ?? "";
      throw new FormationError("unavailable", `buildah could not ${command} the image: ${said}`);
    });
  }

  /** Aborts the action if the disk fills up. */
  async #abortWhenFull(signal: AbortSignal, action: (ending: AbortSignal) => Promise<void>): Promise<void> {
    const full = new AbortController();
    const watch = setInterval(() => {
      if (isNearlyFull(this.#store.settings)) full.abort();
    }, DISK_CHECK_MS);
    try {
      await action(AbortSignal.any([signal, full.signal]));
    } catch (error) {
      throw full.signal.aborted ? noSpace() : error;
    } finally {
      clearInterval(watch);
    }
  }
}

/**
 * Reads an OCI layout: its index, with only the image that was asked for, and the diff ids of the image's
 * layers, lowest first.
 * @throws FormationError `invalid`
 */
function readLayout(layout: string, id: string): { index: unknown; layers: string[] } {
  const [named] = arrayOf(memberOf(readDocument(join(layout, "index.json")), "manifests"));
  const digest = String(memberOf(named, "digest"));
  const manifestFile = blobPath(layout, digest);
  const manifest = readDocument(manifestFile, digest);
  for (const layer of arrayOf(memberOf(manifest, "layers"))) {
    // A layer with `urls` would be fetched from there, with this node's network.
    const here =
      memberOf(layer, "urls") === undefined && LAYER_TYPE.test(String(memberOf(layer, "mediaType")));
    if (!here) throw malformedArchive();
  }
  const config = String(memberOf(memberOf(manifest, "config"), "digest"));
  if (config !== `sha256:${id}`) throw wrongImage();
  const layers = arrayOf(
    memberOf(memberOf(readDocument(blobPath(layout, config), config), "rootfs"), "diff_ids"),
  );
  const size = lstatSync(manifestFile).size;
  return {
    index: { schemaVersion: 2, manifests: [{ mediaType: MANIFEST_TYPE, digest, size }] },
    layers: layers.map(String),
  };
}

function blobPath(layout: string, digest: string): string {
  const [, hex] = /^sha256:([0-9a-f]{64})$/.exec(digest) ?? [];
  if (hex === undefined) throw malformedArchive();
  return join(layout, "blobs", "sha256", hex);
}

function readDocument(path: string, digest?: string): unknown {
  try {
    if (lstatSync(path).size > MAX_DOCUMENT_BYTES) throw malformedArchive();
    const bytes = readFileSync(path);
    const found = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    if (digest !== undefined && found !== digest) throw malformedArchive();
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    throw malformedArchive();
  }
}

function arrayOf(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  throw malformedArchive();
}

function malformedArchive(): FormationError {
  return new FormationError("invalid", "The image's archive is no OCI image layout.");
}

function wrongImage(): FormationError {
  return new FormationError("invalid", "The archive holds another image than it should.");
}
