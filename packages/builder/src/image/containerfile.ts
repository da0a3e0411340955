// The Containerfile of a build, and how its steps are told apart in what buildah prints. It holds a checked image id, a
// checked path and digests alone: every text of a user's stands in a file that the step's shell reads.

import { createHmac } from "node:crypto";

/** What a build consists of, in order: the included files, then the RUN lines. */
export interface Recipe {
  /** Whose steps they are; another's are never used for them. */
  owner: string;
  /** The id of the base in the store, 64 hexadecimal digits, or `scratch`. */
  baseId: string;
  /** Absolute and of harmless characters, see {@link safeWorkdir}. */
  workdir: string;
  env: Record<string, string>;
  run: readonly string[];
}

/** One step as a user sees it, and the exact texts by which buildah names it. */
export interface Step {
  /** `include`, `run 2/3` or `commit`. */
  name: string;
  /** Ends buildah's line `STEP 3/5: …` when the step begins. */
  announced: string;
  /** Stands in quotes in buildah's last error when the step failed. */
  named: string;
  /** Stands in the image's history once the step has run, now or when its layer was made. */
  digest: string;
}

const SAFE_WORKDIR = /^(?:\/[A-Za-z0-9._@+-]+)+$/;

/**
 * The directory that included files go to: the base's own working directory if it has one other than `/`, else `/app`.
 * Null if the base's contains characters that a COPY line would read in its own way.
 */
export function safeWorkdir(ofBase: string): string | null {
  const parts = ofBase.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.length === 0) return "/app";
  const path = `/${parts.join("/")}`;
  return SAFE_WORKDIR.test(path) && !parts.includes("..") ? path : null;
}

/** A text as one word of a POSIX shell (XCU 2.2.2). */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Where the scripts stand while a step runs. Below /dev, which is made anew for every step, so that no image keeps it. */
export const SCRIPTS = "/dev/formation";

/** What a build needs beside its base and files. */
export interface Rendered {
  text: string;
  steps: Step[];
  /** Name and text of the files that stand in {@link SCRIPTS}. */
  scripts: [name: string, text: string][];
}

/**
 * Renders the Containerfile, lists its steps in order, and writes the scripts that they read. Lines and values stand in the
 * scripts alone: an instruction is seen in process lists and in the image's history, and buildah skips one that is long.
 * @param key Keys the digest by which an instruction names its script, for each owner by itself, so that nobody can try out
 *   guesses at another's value, nor give out a layer of his as one that a step of another's has made.
 */
export function renderContainerfile(recipe: Recipe, key: string): Rendered {
  // The layer cache believes the history that any image tells of itself, also one that came from a registry or another
  // node. What is copied has no secret in it, so the way to where it goes has: it is the same place, called by nobody else so.
  const digestOf = (...parts: string[]) =>
    createHmac("sha256", key)
      .update(JSON.stringify([recipe.owner, ...parts]))
      .digest("hex");
  const way = digestOf("include", recipe.workdir);
  const place = `/${way}/..${recipe.workdir}/`;
  // Also where nothing is included: it makes the working directory, and leaves one that is there as it is.
  const copy = `COPY ${JSON.stringify(["tree/", place])}`;
  const lines = [`FROM ${recipe.baseId}`, copy];
  const steps: Step[] = [{ name: "include", announced: copy, named: `COPY tree/ ${place}`, digest: way }];
  const before = beforeEach(recipe);
  const scripts: Rendered["scripts"] = [["env", before]];
  recipe.run.forEach((line, index) => {
    const number = String(index + 1);
    scripts.push([number, line]);
    // The layer cache compares instructions: the digest makes a step another one when its script or the values change.
    const digest = digestOf("run", number, before, line);
    // Read, not run: `$0` and standard input stay what they are to `sh -c`, and the shell takes a script of any length.
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

/** A text of buildah's without the digests of the steps and the way to where included files go: they are nobody's to know. */
export function withoutDigests(text: string, steps: readonly Step[]): string {
  return steps.reduce(
    (rest, { digest }) => rest.replaceAll(`/${digest}/..`, "").replaceAll(digest, "…"),
    text,
  );
}

/** What comes before every line: in a file of its own, so that the shell counts a line's lines from 1. */
function beforeEach(recipe: Recipe): string {
  const exports = Object.entries(recipe.env).map(([key, value]) => `export ${key}=${shellWord(value)}\n`);
  return `cd ${shellWord(recipe.workdir)} || exit 1\n${exports.join("")}`;
}
