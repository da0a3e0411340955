// The entry point: decides how an input is read, checks it against the rules, and returns a formfile or all
// issues. Nothing is thrown.

import { byteLength, codeName, forbiddenIn } from "./characters.ts";
import { dockerfileIssue } from "./dockerfile.ts";
import { FORMFILE_LIMITS } from "./limits.ts";
import { looksLikeJson, readJson } from "./read-json.ts";
import { readObject } from "./read-object.ts";
import { readYaml } from "./read-yaml.ts";
import { Report } from "./report.ts";
import { applyRules } from "./rules.ts";
import type { Tree } from "./syntax-tree.ts";
import type { Formfile, FormfileIssue, FormfileResult } from "./types.ts";

/**
 * Parses a formfile. A string is text: JSON (RFC 8259) if its first character is `{` or `[`, otherwise YAML
 * 1.2 (core schema). Any other value is read as decoded JSON. Throws nothing.
 * @returns the formfile with every default filled in, or all issues in document order (at most
 *   `FORMFILE_LIMITS.issues`)
 */
export function parseFormfile(input: unknown): FormfileResult {
  const text = typeof input === "string" ? input.replace(/^\uFEFF/, "") : undefined;
  const report = new Report(text);
  const tree = text === undefined ? readObject(input, report) : readText(text, report);
  const formfile = tree === undefined ? undefined : applyRules(tree, report);
  if (text !== undefined && fits(text)) reportCharacters(text, report);
  if (formfile !== undefined && report.empty) return { ok: true, formfile, warnings: warningsOf(formfile) };
  return { ok: false, issues: report.issues() };
}

/**
 * Issues as text for a person or a model: one line each under a headline. Issues beyond `errorLength` are
 * counted.
 */
export function formfileError(issues: readonly FormfileIssue[]): string {
  const lines = issues.map(({ path, line, column, problem, remedy }) => {
    const place =
      line === undefined ? path : `line ${line}, column ${column}${path === "" ? "" : `, ${path}`}`;
    return `- ${place === "" ? "" : `${place}: `}${problem} ${remedy}`;
  });
  let length = 0;
  const fitting = lines.filter((line) => {
    length += line.length + 1;
    return length <= FORMFILE_LIMITS.errorLength;
  });
  if (fitting.length < lines.length) fitting.push(`- … and ${lines.length - fitting.length} more.`);
  const count = issues.length === 1 ? "one problem" : `${issues.length} problems`;
  return [`The formfile has ${count}:`, ...fitting].join("\n");
}

function fits(text: string): boolean {
  return text.length <= FORMFILE_LIMITS.textBytes && byteLength(text) <= FORMFILE_LIMITS.textBytes;
}

function readText(text: string, report: Report): Tree | undefined {
  if (!fits(text)) {
    report.add(
      0,
      "",
      `The formfile is larger than ${FORMFILE_LIMITS.textBytes} bytes.`,
      "Move scripts and data into files and name them under include.",
    );
    return undefined;
  }
  const dockerfile = dockerfileIssue(text);
  if (dockerfile !== undefined) {
    report.add(dockerfile.at, "", dockerfile.problem, dockerfile.remedy);
    return undefined;
  }
  const tree = looksLikeJson(text) ? readJson(text, report) : readYaml(text, report);
  if (tree?.kind === "scalar" && tree.value === null) {
    report.add(tree.at, "", "The formfile is empty.", 'Begin with from: "debian:12".');
    return undefined;
  }
  return tree;
}

/** Reports control characters outside of values, for example in comments. */
function reportCharacters(text: string, report: Report): void {
  for (const { offset, code } of forbiddenIn(text, "\t\n\r")) {
    if (report.full) return;
    if (!report.isReported(offset))
      report.add(offset, "", `The text holds ${codeName(code)}.`, "Remove the character.");
  }
}

function warningsOf({ network }: Formfile): string[] {
  const warnings: string[] = [];
  if (network.join_formnet)
    warnings.push(
      "network.join_formnet is accepted but has no effect yet: formnet is not built; the workload gets no private network.",
    );
  if (network.external_networks.length > 0)
    warnings.push(
      "network.external_networks is accepted but has no effect yet: formnet is not built; the workload joins none of them.",
    );
  return warnings;
}
