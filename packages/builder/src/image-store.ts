// Calls buildah and reads its image store. The store's index files (containers/storage) are only read, never
// written; every change goes through buildah.

import { statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  plainEnvironment,
  type RunOptions,
  type RunResult,
  readFileIfPresent,
  run,
  runChecked,
} from "@formation-mcp/os";
import { type ImageConfig, memberOf, readHistory, readImageConfig } from "./image/config.ts";
import { OWN_IMAGE_NAME } from "./image/reference.ts";
import type { BuilderSettings } from "./settings.ts";

/** An image as the store's index lists it. */
export interface IndexedImage {
  id: string;
  /** The manifest's digest. */
  digest: string;
  names: string[];
  layer: string;
}

interface IndexedLayer {
  id: string;
  parent?: string;
  "diff-size"?: number;
  "diff-digest"?: string;
}

export class ImageStore {
  readonly settings: BuilderSettings;

  constructor(settings: BuilderSettings) {
    this.settings = settings;
  }

  /** The whole environment of a buildah process. `tmp` is its directory for temporary files. */
  environment(tmp = this.settings.places.home): Record<string, string> {
    const { etc, home, run: runDir } = this.settings.places;
    return plainEnvironment({
      HOME: home,
      XDG_RUNTIME_DIR: runDir,
      XDG_CONFIG_HOME: etc,
      XDG_DATA_HOME: home,
      TMPDIR: tmp,
      FORMATION_STATE: this.settings.mark,
      CONTAINERS_CONF: join(etc, "containers.conf"),
      CONTAINERS_STORAGE_CONF: join(etc, "storage.conf"),
      CONTAINERS_REGISTRIES_CONF: join(etc, "registries.conf"),
      REGISTRY_AUTH_FILE: this.settings.authFile,
    });
  }

  /** The options that come before every buildah command. */
  globals(): string[] {
    const { root, run: runDir, etc } = this.settings.places;
    return [
      ...["--root", root, "--runroot", runDir, "--storage-driver", "overlay"],
      ...["--registries-conf", join(etc, "registries.conf")],
      ...["--registries-conf-dir", join(etc, "registries.d")],
      ...["--short-name-alias-conf", join(etc, "aliases.conf")],
    ];
  }

  /** Isolates RUN lines with runc, in namespaces of their own, in both profiles. */
  isolation(runtime = this.settings.tools.runc): string[] {
    return ["--isolation", this.settings.profile === "root" ? "oci" : "rootless", "--runtime", runtime];
  }

  policy(): string[] {
    return ["--signature-policy", join(this.settings.places.etc, "policy.json")];
  }

  run(args: readonly string[], options: RunOptions): Promise<RunResult> {
    return run(this.settings.tools.buildah, [...this.globals(), ...args], {
      env: this.environment(),
      ...options,
    });
  }

  runChecked(args: readonly string[], options: RunOptions): Promise<RunResult> {
    return runChecked(this.settings.tools.buildah, [...this.globals(), ...args], {
      env: this.environment(),
      ...options,
    });
  }

  /**
   * Runs one of our shell scripts with access to the store's files: directly as root, else in buildah's user
   * namespace. The arguments arrive as `$1`, …; `$G` holds the store's buildah options.
   */
  script(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    const shell = ["/bin/sh", "-c", script, "sh", ...args];
    const command =
      this.settings.profile === "root" ? shell : [this.settings.tools.buildah, "unshare", ...shell];
    return run(command[0] as string, command.slice(1), { env: this.environment(), ...options });
  }

  images(): IndexedImage[] {
    const found = this.#index<Partial<IndexedImage> & { id: string }>("overlay-images/images.json");
    return found.map((image) => ({
      id: image.id,
      digest: image.digest ?? "",
      names: image.names ?? [],
      layer: image.layer ?? "",
    }));
  }

  byName(name: string): IndexedImage | undefined {
    return this.images().find((image) => image.names.includes(name));
  }

  /** The uncompressed digests (diff ids) of an image's layers, lowest first. */
  layersOf(image: IndexedImage): string[] {
    const layers = this.#layers();
    const digests: string[] = [];
    for (let at = layers.get(image.layer); at; at = at.parent ? layers.get(at.parent) : undefined) {
      digests.unshift(at["diff-digest"] ?? "");
    }
    return digests;
  }

  /** The bytes of the unpacked layers of each image given, and of the layers that none of them uses. */
  sizes(images: readonly IndexedImage[]): { bytes: number[]; unusedBytes: number } {
    const layers = this.#layers();
    const used = new Set<string>();
    const bytes = images.map((image) => {
      let sum = 0;
      for (let at = layers.get(image.layer); at; at = at.parent ? layers.get(at.parent) : undefined) {
        sum += at["diff-size"] ?? 0;
        used.add(at.id);
      }
      return sum;
    });
    let unusedBytes = 0;
    for (const layer of layers.values()) if (!used.has(layer.id)) unusedBytes += layer["diff-size"] ?? 0;
    return { bytes, unusedBytes };
  }

  /**
   * Layers that no image and no container uses, such as a failed pull leaves. Each comes before its parent.
   */
  strayLayers(): string[] {
    const layers = this.#layers();
    const standing = [
      ...this.#index<{ layer?: string; "mapped-layers"?: string[] }>("overlay-images/images.json"),
      ...this.#index<{ layer?: string; "mapped-layers"?: string[] }>("overlay-containers/containers.json"),
    ];
    const chain = (top: string) => {
      const ids: string[] = [];
      for (let at = layers.get(top); at; at = at.parent ? layers.get(at.parent) : undefined) ids.push(at.id);
      return ids;
    };
    const reached = new Set(
      standing.flatMap((one) => [one.layer ?? "", ...(one["mapped-layers"] ?? [])].flatMap(chain)),
    );
    return [...layers.keys()]
      .filter((id) => !reached.has(id))
      .map((id) => ({ id, height: chain(id).length }))
      .sort((a, b) => b.height - a.height)
      .map(({ id }) => id);
  }

  /** Records that a base was used now. */
  touchBase(id: string): void {
    const path = join(this.settings.places.bases, id);
    writeFileSync(path, "");
    const now = this.settings.clock.now() / 1000;
    utimesSync(path, now, now);
  }

  /** The bases on this node, least recently used first. */
  bases(): IndexedImage[] {
    const usedAt = (image: IndexedImage) =>
      statSync(join(this.settings.places.bases, image.id), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    return this.images()
      .filter((image) => image.names.some((name) => !name.startsWith(`${OWN_IMAGE_NAME}:`)))
      .map((image) => ({ image, at: usedAt(image) }))
      .sort((a, b) => a.at - b.at)
      .map(({ image }) => image);
  }

  /** The images made by builds. */
  own(): IndexedImage[] {
    return this.images().filter((image) => image.names.some((name) => name.startsWith(`${OWN_IMAGE_NAME}:`)));
  }

  /** Reads an image's configuration. */
  async inspect(id: string, signal: AbortSignal): Promise<ImageConfig> {
    return readImageConfig(await this.#describe(id, signal));
  }

  /** The instructions that made an image's layers, in order. */
  async history(id: string, signal: AbortSignal): Promise<string[]> {
    // containers/storage keeps an image's configuration in this file. Reading it saves one process per build.
    const name = `=${Buffer.from(`sha256:${id}`).toString("base64")}`;
    const kept = readFileIfPresent(join(this.settings.places.root, "overlay-images", id, name));
    return readHistory(
      kept === null ? memberOf(await this.#describe(id, signal), "OCIv1") : JSON.parse(kept),
    );
  }

  async #describe(id: string, signal: AbortSignal): Promise<unknown> {
    const { stdout } = await this.runChecked(["inspect", "--type", "image", id], {
      timeoutMs: 30_000,
      signal,
      keepBytes: 16 * 1024 * 1024,
    });
    return JSON.parse(stdout);
  }

  #layers(): Map<string, IndexedLayer> {
    return new Map(this.#index<IndexedLayer>("overlay-layers/layers.json").map((one) => [one.id, one]));
  }

  #index<T>(name: string): T[] {
    const text = readFileIfPresent(join(this.settings.places.root, name));
    return text === null || text.trim() === "" ? [] : (JSON.parse(text) as T[]);
  }
}
