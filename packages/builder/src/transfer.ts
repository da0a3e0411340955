// Images on their way between nodes, as OCI archives (OCI Image Layout 1.0). What comes is named by us, not by the archive,
// and is kept only if it is the image that was asked for: its id is the hash of its configuration, which names its layers.

import { createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { packTree, requirePlain, unpackTree } from "./archive.ts";
import type { Cleaner } from "./clean.ts";
import { imageId } from "./disk.ts";
import { noSpace } from "./failure.ts";
import { memberOf } from "./image-config.ts";
import { OWN_IMAGES } from "./reference.ts";
import type { Store } from "./store.ts";
import { freeBytes } from "./watch.ts";

const MOVE_MS = 15 * 60_000;
const WATCH_MS = 500;
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

export class Transfers {
  readonly #store: Store;
  readonly #cleaner: Cleaner;

  constructor(store: Store, cleaner: Cleaner) {
    this.#store = store;
    this.#cleaner = cleaner;
  }

  /** An image's archive; the same image gives the same bytes. */
  async *out(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array> {
    const id = imageId(digest);
    const { name, layout, finish } = await this.#begin("export");
    try {
      if (!this.#store.images().some((image) => image.id === id)) {
        throw new FormationError("not_found", "This node does not hold the image any more.", {
          remedy: "Build the formfile again.",
        });
      }
      await this.#guarded(["push", "--quiet", "--compression-format", "zstd", id, `oci:${name}`], signal);
      yield* packTree(layout, signal);
    } finally {
      await finish();
    }
  }

  /** @throws FormationError `invalid` if it is another image, or none. */
  async in(digest: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    const id = imageId(digest);
    const { name, layout, finish } = await this.#begin("import");
    // buildah makes an image's name from the path it is pulled from.
    const pulled = `localhost/${name}:latest`;
    try {
      await unpackTree(content, layout, signal);
      requirePlain(layout);
      writeFileSync(join(layout, "index.json"), JSON.stringify(indexOf(layout)));
      await this.#guarded(["pull", "--quiet", `oci:${name}`], signal);
      if (this.#store.byName(pulled)?.id !== id) {
        throw new FormationError("invalid", "The archive holds another image than it should.");
      }
      await this.#store.runChecked(["tag", id, `${OWN_IMAGES}:${id}`], { timeoutMs: 60_000, signal });
    } finally {
      if (this.#store.byName(pulled)) await this.#cleaner.discard(pulled);
      await finish();
    }
  }

  /** A directory for one transfer. Nobody can guess its name, so no build can take what comes there for a base. */
  async #begin(direction: "export" | "import") {
    const name = `${direction}-${randomBytes(12).toString("hex")}`;
    const finish = await this.#cleaner.begin(name);
    return { name, layout: join(this.#store.settings.places.builds, name), finish };
  }

  /** Runs buildah and ends it when the disk fills up: how large a packed layer really is, only unpacking tells. */
  async #guarded(args: string[], signal: AbortSignal): Promise<void> {
    const { stateDir, reserveBytes, places } = this.#store.settings;
    const full = new AbortController();
    const watch = setInterval(() => {
      if (freeBytes(stateDir) < reserveBytes) full.abort();
    }, WATCH_MS);
    try {
      const ending = AbortSignal.any([signal, full.signal]);
      const options = { timeoutMs: MOVE_MS, signal: ending, cwd: places.builds };
      const [command = "", ...rest] = args;
      const result = await this.#store.run([command, ...this.#store.policy(), ...rest], options);
      if (result.code === 0) return;
      const said = result.stderr.trim().split("\n").at(-1)?.slice(0, 400) ?? "";
      throw new FormationError("unavailable", `buildah could not ${command} the image: ${said}`);
    } catch (error) {
      throw full.signal.aborted ? noSpace() : error;
    } finally {
      clearInterval(watch);
    }
  }
}

/** The layout's index with the one image that it holds, and nothing else that the archive says about it. */
function indexOf(layout: string): unknown {
  const strange = new FormationError("invalid", "The image's archive is no OCI image layout.");
  let found: unknown;
  try {
    found = memberOf(JSON.parse(readFileSync(join(layout, "index.json"), "utf8")), "manifests");
  } catch {
    throw strange;
  }
  const [manifest] = Array.isArray(found) ? found : [];
  const digest = /^sha256:([0-9a-f]{64})$/.exec(String(memberOf(manifest, "digest")))?.[1];
  if (digest === undefined) throw strange;
  let bytes: Buffer;
  try {
    bytes = readFileSync(join(layout, "blobs", "sha256", digest));
  } catch {
    throw strange;
  }
  if (createHash("sha256").update(bytes).digest("hex") !== digest) throw strange;
  return {
    schemaVersion: 2,
    manifests: [{ mediaType: MANIFEST, digest: `sha256:${digest}`, size: bytes.length }],
  };
}
