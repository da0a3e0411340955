// The `build` operation: makes an image from a build record and its context.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Digest } from "@formation-mcp/artifacts";
import { unpackContext } from "@formation-mcp/artifacts/context";
import { type Build, FormationError, type Image, LIMITS } from "@formation-mcp/contract";
import type { BuildPatch } from "@formation-mcp/operations";
import type { Attempt, OperationHandler } from "../attempt/operation-handler.ts";
import type { UnsuccessfulOutcome } from "../attempt/outcome.ts";
import type { WorkerDeps } from "../deps.ts";
import { keepImage } from "./image-archives.ts";
import type { InputOf } from "./operation-input.ts";

/** The work of a `build` operation. */
export const buildHandler: OperationHandler = (deps, attempt) => {
  const { build_id, no_cache } = attempt.operation.input as InputOf<"build">;
  const { needs } = attempt.operation;
  return {
    async run() {
      const build = await deps.store.build(null, build_id);
      const patch = await makeImage(deps, attempt, build, {
        noCache: no_cache,
        memory_mb: needs.memory_mb || LIMITS.buildMemoryMb,
        vcpus: needs.vcpus || 1,
        progressShare: 1,
      });
      return { builds: [{ id: build_id, patch }] };
    },
    async undo(outcome) {
      return { builds: [{ id: build_id, patch: unfinishedBuild(deps, outcome) }] };
    },
    // The builder leaves nothing behind, and the sweep removes an image that no record names.
    async abandon() {},
  };
};

export interface ImageOptions {
  noCache: boolean;
  memory_mb: number;
  vcpus: number;
  /** The fraction of the operation's progress that the build takes, up to 1. */
  progressShare: number;
}

/**
 * Builds the image of a build record, and writes what the build prints to the build's log.
 * @returns the patch that makes the record `ready`.
 * @throws FormationError with the failing step, its exit code, its last lines and what to do.
 */
export async function makeImage(
  deps: WorkerDeps,
  attempt: Attempt,
  build: Build,
  options: ImageOptions,
): Promise<BuildPatch> {
  const { builder, clock, logs, node, settings } = deps;
  const share = options.progressShare;
  await attempt.apply({
    builds: [
      { id: build.id, patch: { state: "building", started_at: clock.now(), node_id: node.id, error: null } },
    ],
  });
  const id = `${build.id}.${attempt.number}`;
  const scratch = join(deps.scratchDir, id);
  let image: Image;
  try {
    const contextDir = await unpackBuildContext(deps, attempt, build, scratch);
    image = await builder.build(
      {
        id,
        owner: build.owner,
        formfile: build.formfile,
        contextDir,
        noCache: options.noCache,
        limits: {
          memory_mb: options.memory_mb,
          vcpus: options.vcpus,
          pids: LIMITS.buildPids,
          disk_bytes: deps.settings.buildDiskBytes,
          timeout_ms: Math.max(1, Math.min(settings.buildMs, attempt.remainingMs())),
        },
      },
      {
        signal: attempt.signal,
        onLine: (_stream, line) => logs.line(build.id, "build", line),
        onStep: (step, message, fraction) => {
          logs.line(build.id, "build", `==> ${message}`);
          attempt.step(step, message, fraction === null ? null : fraction * share);
        },
      },
    );
    if (deps.artifacts.shared) attempt.step("share", "Storing the image for other nodes.", 0.95 * share);
    image = await keepImage(deps, attempt, image);
  } catch (thrown) {
    throw withRemedy(thrown);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    await logs.finish(build.id);
  }
  const now = clock.now();
  return { state: "ready", image, error: null, node_id: node.id, used_at: now, ended_at: now };
}

/** The patch of a build record whose attempt ended without an image. */
export function unfinishedBuild(deps: Pick<WorkerDeps, "clock">, outcome: UnsuccessfulOutcome): BuildPatch {
  if (outcome.state === "queued") return { state: "queued" };
  return { state: outcome.state, error: outcome.error, ended_at: deps.clock.now() };
}

async function unpackBuildContext(
  deps: WorkerDeps,
  attempt: Attempt,
  build: Build,
  scratch: string,
): Promise<string | null> {
  if (build.context_digest === null) return null;
  attempt.step("context", "Unpacking the context.", 0);
  const contextDir = join(scratch, "context");
  await mkdir(contextDir, { recursive: true, mode: 0o700 });
  const stream = await deps.artifacts.get(build.context_digest as Digest);
  await unpackContext(stream, contextDir, {
    maxBytes: LIMITS.contextBytes,
    maxFiles: LIMITS.contextFiles,
    signal: attempt.signal,
  });
  return contextDir;
}

/** The same error with a remedy. The builder has added the step and the last log lines. */
function withRemedy(thrown: unknown): FormationError {
  const error = FormationError.from(thrown, "The build failed inside the worker.");
  if (error.code === "cancelled") return error;
  const { details, cause } = error;
  return new FormationError(error.code, error.message, {
    ...details,
    remedy: details.remedy ?? remedyFor(error),
    cause,
  });
}

function remedyFor(error: FormationError): string {
  const step = error.details.step ?? "";
  if (step.startsWith("run"))
    return "Read the last lines of the log, correct that line of `run`, and build again.";
  if (step === "pull")
    return "Check `from`: the image must exist and its registry must be reachable from the worker.";
  if (step === "include" || step === "context")
    return "Check that every file that `include` names is in the context, and send it again.";
  if (error.code === "limit") return "Make the build smaller or quicker, or split it.";
  return "Correct the formfile and build again.";
}
