// How images reach other nodes. Where nodes share artifacts, the archive of an image is stored when it is
// built, and a node that is to run the image fetches it once.

import type { Digest } from "@formation-mcp/artifacts";
import { type Build, FormationError, type Image } from "@formation-mcp/contract";
import type { Attempt } from "../attempt/operation-handler.ts";
import type { WorkerDeps } from "../deps.ts";

const MiB = 1024 * 1024;

/**
 * Holds an image until its record names it, and stores its archive where nodes share artifacts.
 * @returns the image as the record is to name it.
 * @throws FormationError `unavailable` if the image was removed meanwhile.
 */
export async function keepImage(deps: WorkerDeps, attempt: Attempt, image: Image): Promise<Image> {
  await deps.imageHolds.hold(attempt.operation, image.digest);
  if (!deps.artifacts.shared) return image;
  // Layers are compressed, so that the archive of this image is never larger.
  const maxBytes = 2 * image.bytes + 64 * MiB;
  const archive = deps.builder.exportImage(image.digest, attempt.signal);
  const { digest } = await deps.artifacts.put(archive, { maxBytes, signal: attempt.signal });
  return { ...image, archive: digest };
}

/**
 * Makes sure that this node has a build's image. Calls for one image run one after the other, so that it is
 * fetched once.
 * @throws FormationError `unavailable` if only another node has it, or its archive can't be read now.
 */
export async function ensureImage(
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
    await deps.builder.importImage(digest, await openArchive(deps, archive as Digest), attempt.signal);
  });
}

async function openArchive(deps: WorkerDeps, archive: Digest): Promise<AsyncIterable<Uint8Array>> {
  try {
    return await deps.artifacts.get(archive);
  } catch (error) {
    if ((error as FormationError).code !== "not_found") throw error;
    // The node that built the image stores the archive again when it finds that it is missing.
    throw new FormationError("unavailable", "The build's image is not among the artifacts now.", {
      step: "image",
      remedy: "Try again in some minutes, or build it again.",
      cause: error,
    });
  }
}
