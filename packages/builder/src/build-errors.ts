// Explains why a build failed, from buildah's last error and from the limits that the build reached.

import { FormationError } from "@formation-mcp/contract";
import type { CgroupSample } from "./build-cgroup.ts";
import { readFailure } from "./build-output.ts";
import { type Step, withoutDigests } from "./image/containerfile.ts";
import { tooManyProcesses, tooMuchDisk, tooMuchMemory } from "./limit-watch.ts";
import type { BuildLimits, BuildRequest } from "./port.ts";

/** A run of buildah that ended with a code other than 0. */
export interface EndedBuild {
  code: number;
  stderr: string;
  steps: readonly Step[];
  seen: CgroupSample;
  limits: BuildLimits;
  /** The last lines that the build printed. */
  tail: readonly string[];
}

/** The error of a build that ended by itself: `limit` if it reached a limit, else the line that failed. */
export function explainEnd(ended: EndedBuild): FormationError {
  const failure = readFailure(ended.steps, ended.stderr);
  const shown = (text: string) => withoutDigests(text, ended.steps).slice(0, 600);
  if (!failure) {
    const said = shown((ended.stderr.trim().split("\n").at(-1) ?? "").replace(/^Error: /, ""));
    return new FormationError("unavailable", `The build ended by itself: ${said || `code ${ended.code}`}.`, {
      remedy: "Try again; if it happens again, look at the worker's log.",
    });
  }
  const details = {
    step: failure.step.name,
    ...(failure.exitCode === null ? {} : { exit_code: failure.exitCode }),
  };
  if (failure.step.name === "include") return notIncluded(failure.reason, details);
  // For a killed program buildah returns 1 and says so on stderr; a shell returns 137.
  const killed =
    failure.exitCode === 137 ||
    (failure.exitCode === 1 && ended.tail.slice(-3).includes("container exited on killed"));
  if (ended.seen.oomKills > 0 || (killed && ended.seen.memoryHits > 0)) {
    return withDetails(tooMuchMemory(ended.limits), details);
  }
  const forksFailed = ended.tail.some((line) => /\bfork\b.*Resource temporarily unavailable/.test(line));
  if (ended.seen.forksRefused > 0 || ended.seen.mostProcesses >= ended.limits.pids || forksFailed) {
    return withDetails(tooManyProcesses(ended.limits), details);
  }
  if (failure.exitCode === 153 || ended.tail.slice(-3).some((line) => /File (size|too large)/.test(line))) {
    return withDetails(tooMuchDisk(ended.limits), details);
  }
  const notStarted = ended.tail.some((line) => /\brunc (create|run) failed: /.test(line));
  if (failure.exitCode === null || (failure.exitCode === 1 && notStarted)) {
    return new FormationError(
      "invalid",
      `The step ${failure.step.name} could not be run: ${notStarted ? "its program cannot be started" : shown(failure.reason)}.`,
      {
        ...details,
        remedy: "Run lines need /bin/sh in the base image, and its USER must exist there.",
      },
    );
  }
  const message = `The step ${failure.step.name} failed with exit code ${failure.exitCode}.`;
  return new FormationError("invalid", message, {
    ...details,
    remedy: `Read the last lines of its log, correct the run line, and build again.${
      ended.seen.memoryHits > 0 ? ` It came to its memory limit of ${ended.limits.memory_mb} MiB.` : ""
    }`,
  });
}

/** buildah's reason contains paths of the node, so it is replaced by our own text. */
function notIncluded(reason: string, details: FormationError["details"]): FormationError {
  if (/no space left on device|disk quota exceeded/i.test(reason)) return withDetails(noSpace(), details);
  if (/not a directory|symbolic links|too many links|too many levels/i.test(reason)) {
    return new FormationError(
      "invalid",
      "The base has something in place of its working directory that is no directory.",
      {
        ...details,
        field: "from",
        remedy: "Use a base whose WORKDIR (/app where it names none) is a directory, or is not there.",
      },
    );
  }
  return new FormationError("unavailable", "The included files could not be put into the image.", {
    ...details,
    remedy: "Try again; if it happens again, the worker's log has buildah's words.",
  });
}

export function withDetails(error: FormationError, details: FormationError["details"]): FormationError {
  return new FormationError(error.code, error.message, {
    ...error.details,
    ...details,
    ...(error.cause === undefined ? {} : { cause: error.cause }),
  });
}

export function checkScratch({ formfile }: BuildRequest): void {
  if (formfile.from !== "scratch") return;
  if (formfile.run.length > 0) {
    throw new FormationError(
      "invalid",
      "Nothing can be run in an image made from scratch: it has no shell.",
      {
        field: "run",
        remedy: 'Take a base that has /bin/sh, such as "busybox", or remove run.',
      },
    );
  }
  if (typeof formfile.entrypoint === "string") {
    throw new FormationError(
      "invalid",
      "An image made from scratch has no shell for an entrypoint that is one text.",
      {
        field: "entrypoint",
        remedy: 'Write the entrypoint as a list: ["/app/server"].',
      },
    );
  }
}

export function strangeWorkdir(name: string): FormationError {
  return new FormationError("invalid", `The working directory of ${name} has a name that cannot be used.`, {
    field: "from",
    remedy: "Use a base whose WORKDIR consists of letters, digits and . _ @ + - alone.",
  });
}

/** For a build that buildah reports as successful but whose image history lacks a step. */
export function notRun(step: Step): FormationError {
  return new FormationError("internal", `The build ended well but the step ${step.name} was not run.`, {
    step: step.name,
    remedy: "Report this with the version of buildah on the node; another version may run it.",
  });
}

export function noSpace(): FormationError {
  return new FormationError("unavailable", "The node's disk is too full to build anything.", {
    remedy: "Have the operator free or add disk space, then try again.",
  });
}
