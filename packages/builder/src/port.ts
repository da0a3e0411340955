// The builder port: makes an image from a formfile and its included files, keeps it on the node, and makes
// disks from it. How images are built, stored and cached is up to the driver.

import type { Image } from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";

/** What one build may use. The driver ends a build that exceeds a limit. */
export interface BuildLimits {
  memory_mb: number;
  vcpus: number;
  pids: number;
  /** Bytes that run lines and included files may add. */
  disk_bytes: number;
  timeout_ms: number;
}

export interface BuildRequest {
  /** `<build id>.<attempt>`; part of the name of everything that the driver makes for the build. */
  id: string;
  /** The build's owner. Cached steps of other owners are not used. */
  owner: string;
  formfile: Formfile;
  /** A directory with the context, already checked: plain files, directories, and links that stay inside. */
  contextDir: string | null;
  /** Ignore the cache and run every step. */
  noCache: boolean;
  limits: BuildLimits;
}

export interface BuildHooks {
  /** Aborting ends the whole process tree and leaves nothing behind. */
  signal: AbortSignal;
  /** One line that the build printed, as soon as it is printed: untrusted text. */
  onLine(stream: "stdout" | "stderr", line: string): void;
  /** A step started: `pull`, `include`, `run 1/3`, `commit`. The message is ours and safe to show. */
  onStep(step: string, message: string, fraction: number | null): void;
}

export interface StoredImage {
  digest: string;
  bytes: number;
}

/** What the driver found and really enforces on this machine, for `doctor` and the node record. */
export interface BuilderReport {
  driver: string;
  version: string;
  /** Whether it can build at all; `problems` says what to do if not. */
  ready: boolean;
  problems: { problem: string; remedy: string }[];
  /**
   * Each promise of the security model (`memory limit`, `pids limit`, `network filter`, …) and whether it is
   * enforced here.
   */
  enforced: { what: string; enforced: boolean; how: string }[];
}

/**
 * Every method throws only FormationError. A mistake of the formfile's author (unknown base, a failing run
 * line, a limit reached) is `invalid`, `not_found` or `limit`, with `step` and, if there is one, `exit_code`.
 * A cancelled build is `cancelled`. Only what may pass by itself is `unavailable`.
 */
export interface Builder {
  build(request: BuildRequest, hooks: BuildHooks): Promise<Image>;
  /**
   * The path of a read-only raw disk of `diskGb` GiB with the image's files as one ext4 file system. Made
   * once per image and size and cached. The caller hard-links it, so that removing it from the cache does no
   * harm.
   */
  disk(digest: string, diskGb: number, signal: AbortSignal): Promise<string>;
  /** The images that this node keeps from builds and imports (not bases). */
  images(): Promise<StoredImage[]>;
  /**
   * An image as an archive that `importImage` of the same driver accepts on any node. The same image gives
   * the same bytes. The archive is made while it is read, and temporary files are removed when the reader
   * stops.
   */
  exportImage(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /**
   * Keeps an image that another node exported. Idempotent.
   * @throws FormationError `invalid` if the archive holds no image or another one (nothing of it is kept);
   *   also what the content throws.
   */
  importImage(digest: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
  /**
   * Deletes an image and its disks. Idempotent.
   * @throws FormationError `unavailable` while a build uses it; the build continues.
   */
  remove(digest: string): Promise<void>;
  /**
   * Removes the least recently used disks and layers until the caches fit the budget. Returns the bytes
   * freed.
   */
  trim(budgetBytes: number): Promise<number>;
  /**
   * Ends and removes everything that an earlier process left half-made. Called once, before the first build.
   */
  recover(): Promise<void>;
  /**
   * Removes everything that the driver keeps: bases, images, disks, caches. The driver cannot be used
   * afterwards.
   */
  destroy(): Promise<void>;
  probe(): Promise<BuilderReport>;
}
