// The Containerfile of a build, and how its steps are told apart in what buildah prints. It holds a checked image id and
// JSON alone: no text of a user's can end a line, begin an instruction or be expanded by the builder.

/** What a build consists of, in order: the included files, then the RUN lines. */
export interface Recipe {
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

/** Renders the Containerfile and lists its steps in order. */
export function renderContainerfile(recipe: Recipe): { text: string; steps: Step[] } {
  // Also where nothing is included: it makes the working directory, and leaves one that is there as it is.
  const copy = `COPY ${JSON.stringify(["tree/", `${recipe.workdir}/`])}`;
  const lines = [`FROM ${recipe.baseId}`, copy];
  const steps: Step[] = [{ name: "include", announced: copy, named: `COPY tree/ ${recipe.workdir}/` }];
  recipe.run.forEach((line, index) => {
    const script = scriptOf(recipe, line, index);
    const text = `RUN ${JSON.stringify(["/bin/sh", "-c", script])}`;
    lines.push(text);
    steps.push({
      name: `run ${index + 1}/${recipe.run.length}`,
      announced: text,
      named: `RUN /bin/sh -c ${script}`,
    });
  });
  return { text: `${lines.join("\n")}\n`, steps };
}

/** The script of one RUN line. Its first line makes it unlike every other step of the same build. */
function scriptOf(recipe: Recipe, line: string, index: number): string {
  const exports = Object.entries(recipe.env).map(([key, value]) => `export ${key}=${shellWord(value)}\n`);
  return `# ${index + 1}\ncd ${shellWord(recipe.workdir)} || exit 1\n${exports.join("")}${line}`;
}
