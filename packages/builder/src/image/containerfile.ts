// Renders a build's Containerfile, and the texts by which its steps are recognized in buildah's output. The
// Containerfile holds only a checked image id, a checked path and digests; every text of a user is in a file
// that the step's shell reads.

import { createHmac } from "node:crypto";

/** The content of a build, in order: the included files, then the run lines. */
export interface Recipe {
  /** The build's owner. Cached steps of other owners are never used. */
  owner: string;
  /** The id of the base in the store (64 hexadecimal digits), or `scratch`. */
  baseId: string;
  /** Absolute and of safe characters, see {@link safeWorkdir}. */
  workdir: string;
  env: Record<string, string>;
  run: readonly string[];
}

/** One step as a user sees it, and the exact texts by which buildah names it. */
export interface Step {
  /** `include`, `run 2/3` or `commit`. */
  name: string;
  /** The end of buildah's line `STEP 3/5: …` when the step starts. */
  announced: string;
  /** The quoted text in buildah's last error if the step failed. */
  named: string;
  /** In the image's history once the step has run, now or when its cached layer was made. */
  digest: string;
}

const SAFE_WORKDIR = /^(?:\/[A-Za-z0-9._@+-]+)+$/;

/**
 * The directory for included files: the base's working directory if it has one other than `/`, else `/app`.
 * Null if the base's has characters that are special in a COPY instruction.
 */
export function safeWorkdir(ofBase: string): string | null {
  const parts = ofBase.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.length === 0) return "/app";
  const path = `/${parts.join("/")}`;
  return SAFE_WORKDIR.test(path) && !parts.includes("..") ? path : null;
}

/** Quotes a text as one word of a POSIX shell (XCU 2.2.2). */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * The directory of the scripts while a step runs. It is below /dev, which is new for every step, so no image
 * keeps it.
 */
export const SCRIPTS = "/dev/formation";

/** What a build needs in addition to its base and files. */
export interface Rendered {
  text: string;
  steps: Step[];
  /** Name and text of the files in {@link SCRIPTS}. */
  scripts: [name: string, text: string][];
}

/**
 * Renders the Containerfile, its steps in order, and the scripts that they read. Lines and values are only in
 * the scripts: process lists and the image's history show an instruction, and buildah skips a very long one.
 * @param key The HMAC key of the digest by which an instruction names its script. The digest covers the owner
 *   too. So an owner cannot test guesses at another's value, and cannot pass off a layer as one made by
 *   another's step.
 */
export function renderContainerfile(recipe: Recipe, key: string): Rendered {
  // The layer cache trusts the history in any image, also one from a registry or another node. Copied files
  // hold no secret, so a digest in the destination path protects this step: the path leads to the same
  // directory, but only this owner's builds write it so.
  const digestOf = (...parts: string[]) =>
    createHmac("sha256", key)
      .update(JSON.stringify([recipe.owner, ...parts]))
      .digest("hex");
  const way = digestOf("include", recipe.workdir);
  const place = `/${way}/..${recipe.workdir}/`;
  // Also if nothing is included: COPY makes the working directory, and leaves an existing one unchanged.
  const copy = `COPY ${JSON.stringify(["tree/", place])}`;
  const lines = [`FROM ${recipe.baseId}`, copy];
  const steps: Step[] = [{ name: "include", announced: copy, named: `COPY tree/ ${place}`, digest: way }];
  const before = beforeEach(recipe);
  const scripts: Rendered["scripts"] = [["env", before]];
  recipe.run.forEach((line, index) => {
    const number = String(index + 1);
    scripts.push([number, line]);
    // The layer cache compares instructions. The digest changes the instruction when its script or the values
    // change.
    const digest = digestOf("run", number, before, line);
    // Sourced, not executed: `$0` and standard input stay as with `sh -c`, and a script may have any length.
    const command = `. ${SCRIPTS}/env; . ${SCRIPTS}/${number} #${digest}`;
    const text = `RUN ${JSON.stringify(["/bin/sh", "-c", command])}`;
    lines.push(text);
    steps.push({
      name: `run ${number}/${recipe.run.length}`,
      announced: text,
      named: `RUN /bin/sh -c ${command}`,
      digest,
    });
  });
  return { text: `${lines.join("\n")}\n`, steps, scripts };
}

/** Removes the digests, and the paths with digests, from a text of buildah; they must not be published. */
export function withoutDigests(text: string, steps: readonly Step[]): string {
  return steps.reduce(
    (rest, { digest }) => rest.replaceAll(`/${digest}/..`, "").replaceAll(digest, "…"),
    text,
  );
}

/**
 * The script that is sourced before every line. It is a file of its own, so that the shell counts the line's
 * lines from 1.
 */
function beforeEach(recipe: Recipe): string {
  const exports = Object.entries(recipe.env).map(([key, value]) => `export ${key}=${shellWord(value)}\n`);
  return `cd ${shellWord(recipe.workdir)} || exit 1\n${exports.join("")}`;
}
