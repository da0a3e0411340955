// What a rule found, and how it is told.

/** One offence. */
export interface Offence {
  path: string;
  /** From 1; 0 if it is about the whole file. */
  line: number;
  /** What is wrong and what to do, in one sentence. */
  advice: string;
}

/** One line per offence, in the order of the tree. */
export function tell(offences: readonly Offence[]): string {
  return offences
    .toSorted((a, b) => (a.path === b.path ? a.line - b.line : a.path < b.path ? -1 : 1))
    .map(({ path, line, advice }) => `${path}${line > 0 ? `:${line}` : ""}  ${advice}`)
    .join("\n");
}
