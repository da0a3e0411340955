// Short ways to ask the parser for what the laws talk about.
import { type Formfile, type FormfileIssue, parseFormfile } from "@formation-mcp/formfile";
import { expect } from "vitest";

export function accepted(input: unknown): Formfile {
  const result = parseFormfile(input);
  if (!result.ok) throw new Error(`refused: ${JSON.stringify(result.issues)}`);
  return result.formfile;
}

export function refused(input: unknown): FormfileIssue[] {
  const result = parseFormfile(input);
  if (result.ok) throw new Error(`accepted: ${JSON.stringify(result.formfile)}`);
  expect(result.issues.length).toBeGreaterThan(0);
  for (const issue of result.issues) {
    expect(issue.problem).toMatch(/\.$/);
    expect(issue.remedy).not.toBe("");
  }
  return result.issues;
}

/** The only issue of an input. */
export function onlyIssue(input: unknown): FormfileIssue {
  const issues = refused(input);
  expect(issues).toHaveLength(1);
  return issues[0] as FormfileIssue;
}

/** The only issue of a formfile that is right but for the given keys. */
export function flaw(part: object): FormfileIssue {
  return onlyIssue({ from: "debian:12", ...part });
}

/** `line:column path` of every issue. */
export function places(input: unknown): string[] {
  return refused(input).map(({ line, column, path }) => `${line}:${column} ${path}`.trimEnd());
}
