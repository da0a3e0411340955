// The builder port: a formfile and the files it includes become an image that the node keeps, and disks made from it.
// How an image is built, stored and cached is the driver's secret.

import type { Image } from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";

/** What one build may use; the driver ends the build that goes beyond. */
export interface BuildLimits {
  memory_mb: number;
  vcpus: number;
  pids: number;
  /** Bytes that RUN lines and included files may add. */
  disk_bytes: number;
  timeout_ms: number;
}

export interface BuildRequest {
  /** `<build id>.<attempt>`: everything the driver makes for it carries this name. */
  id: string;
  /** Whose build it is: no step that another owner's build ran is used for it. */
  owner: string;
  formfile: Formfile;
  /** A directory that holds the context, already checked: plain files, directories and links that stay inside. */
  contextDir: string | null;
  /** Build every step anew. */
  noCache: boolean;
  limits: BuildLimits;
}

export interface BuildHooks {
  /** Aborting ends the whole process tree and leaves nothing behind. */
  signal: AbortSignal;
  /** One line that the build printed, as it prints it: untrusted text. */
  onLine(stream: "stdout" | "stderr", line: string): void;
  /** A step began: `pull`, `include`, `run 1/3`, `commit`. The message is ours, safe to show. */
  onStep(step: string, message: string, fraction: number | null): void;
}

export interface StoredImage {
  digest: string;
  bytes: number;
}

/** What the driver found and what it really enforces here, for `doctor` and the node record. */
export interface BuilderReport {
  driver: string;
  version: string;
  /** Whether it can build at all, and if not, what to do about it. */
  ready: boolean;
  problems: { problem: string; remedy: string }[];
  /** Each promise of the security model and whether it is kept here: `memory limit`, `pids limit`, `network filter`, … */
  enforced: { what: string; enforced: boolean; how: string }[];
}

/**
 * Every method throws FormationError alone. A mistake of the formfile's author (unknown base, a failing RUN line, a
 * limit reached) is `invalid`, `not_found` or `limit` with `step` and, where there is one, `exit_code`; a cancelled
 * build is `cancelled`; only what may go away by itself is `unavailable`.
 */
export interface Builder {
  build(request: BuildRequest, hooks: BuildHooks): Promise<Image>;
  /**
   * The path of a read-only raw disk of `diskGb` GiB that holds the image's files as one ext4 file system. Made once per
   * (image, size) and cached; the caller hard-links it, so that removing it from the cache takes it from nobody.
   */
  disk(digest: string, diskGb: number, signal: AbortSignal): Promise<string>;
  /** The images that this node keeps for builds (not bases). */
  images(): Promise<StoredImage[]>;
  /**
   * An image as an archive that `importImage` of the same driver takes on any node; the same image gives the same bytes.
   * It is made when it is read, and what it needs meanwhile is gone when the reader ends.
   */
  exportImage(digest: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
  /**
   * Keeps an image that another node exported. Idempotent.
   * @throws FormationError `invalid` if the archive holds no image or another one, of which nothing stays; what the content
   *   throws.
   */
  importImage(digest: string, content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void>;
  /**
   * Forgets an image and its disks. Idempotent.
   * @throws FormationError `unavailable` while a build stands on it, which goes on.
   */
  remove(digest: string): Promise<void>;
  /** Removes least recently used disks and layers until the caches fit. Returns the bytes freed. */
  trim(budgetBytes: number): Promise<number>;
  /** Ends and removes whatever an earlier process left half-made. Called once, before the first build. */
  recover(): Promise<void>;
  /** Removes all that the driver keeps: bases, images, disks, caches. It cannot be used afterwards. */
  destroy(): Promise<void>;
  probe(): Promise<BuilderReport>;
}
