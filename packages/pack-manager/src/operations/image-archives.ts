// Images beyond the node that built them: where nodes share artifacts, an image's archive is stored when it is built, and
// fetched once by a node that is to run it.

import type { Digest } from "@formation-mcp/artifacts";
import { type Build, FormationError, type Image } from "@formation-mcp/contract";
import type { Attempt } from "../attempt/attempt.ts";
import type { WorkerDeps } from "../deps.ts";

const MiB = 1024 * 1024;

/** Keeps an image for its record, also for the other nodes where they share artifacts; returns it as its record is to say. */
export async function keepImage(deps: WorkerDeps, attempt: Attempt, image: Image): Promise<Image> {
  await deps.imageHolds.hold(attempt.operation, image.digest);
  if (!deps.artifacts.shared) return image;
  // Layers are packed, so more than this is no image of that size.
  const maxBytes = 2 * image.bytes + 64 * MiB;
  const archive = deps.builder.exportImage(image.digest, attempt.signal);
  const { digest } = await deps.artifacts.put(archive, { maxBytes, signal: attempt.signal });
  return { ...image, archive: digest };
}

/**
 * Sees that this node holds a build's image. Whoever asks for the same one meanwhile waits for the same work.
 * @throws FormationError `unavailable` if it is on another node alone, or its archive cannot be had now.
 */
export async function bringImage(
  deps: WorkerDeps,
  attempt: Attempt,
  build: Build & { image: Image },
): Promise<void> {
  const { digest, archive } = build.image;
  await deps.locks.run(`image ${digest}`, async () => {
    attempt.signal.throwIfAborted();
    if ((await deps.builder.images()).some((image) => image.digest === digest)) return;
    if (archive === undefined) {
      if (build.node_id === null || build.node_id === deps.node.id) return;
      throw new FormationError("unavailable", "The build's image is kept by another node.", {
        step: "build",
        remedy: "Build it again on this node.",
      });
    }
    attempt.step("image", "Fetching the image.");
    await deps.builder.importImage(digest, await contentOf(deps, archive as Digest), attempt.signal);
  });
}

async function contentOf(deps: WorkerDeps, archive: Digest): Promise<AsyncIterable<Uint8Array>> {
  try {
    return await deps.artifacts.get(archive);
  } catch (error) {
    if ((error as FormationError).code !== "not_found") throw error;
    // The node that built it stores it again when it sees that it was lost.
    throw new FormationError("unavailable", "The build's image is not among the artifacts now.", {
      step: "image",
      remedy: "Try again in some minutes, or build it again.",
      cause: error,
    });
  }
}
