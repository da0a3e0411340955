// Checks the input of a tool. One error lists every problem, each with its field and what to write instead.

import { FormationError } from "@formation-mcp/contract";
import type { Tool } from "@formation-mcp/tools";

type Parsed = ReturnType<Tool["input"]["safeParse"]>;
type Issue = NonNullable<Parsed["error"]>["issues"][number];

/** A problem of an input, before it becomes an error. */
export interface Problem {
  field: string;
  problem: string;
}

/** The highest number of problems that one error lists. */
const MAX_PROBLEMS = 50;

/** Throws if there are problems. @throws FormationError `invalid` with every problem. */
export function throwProblems(problems: readonly Problem[], remedy: string): void {
  const [first] = problems;
  if (!first) return;
  const lines = problems.slice(0, MAX_PROBLEMS).map(({ field, problem }) => `- ${field}: ${problem}`);
  if (problems.length > MAX_PROBLEMS) lines.push(`- and ${problems.length - MAX_PROBLEMS} more.`);
  const message =
    problems.length === 1
      ? `${first.field}: ${first.problem}`
      : [`${problems.length} fields are wrong:`, ...lines].join("\n");
  throw new FormationError("invalid", message, { field: first.field, remedy });
}

/** @throws FormationError `invalid` */
export function parseInput(tool: Tool, input: unknown): Record<string, unknown> {
  throwProblems(reservedKeys(input), "Name it otherwise.");
  const parsed = tool.input.safeParse(input ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.flatMap((issue) => issueProblems(issue, tool));
  throwProblems(problems, `Correct ${problems.length === 1 ? "it" : "them"} and call ${tool.name} again.`);
  throw new FormationError("invalid", "The input is not what the tool takes.", { field: "input" });
}

/**
 * Finds the key `__proto__`, which the schemas would drop silently. The formfile's parser reports it itself.
 */
function reservedKeys(input: unknown, path: string[] = []): Problem[] {
  if (typeof input !== "object" || input === null || path.length > 4) return [];
  if (path.length === 1 && path[0] === "formfile") return [];
  if (Object.hasOwn(input, "__proto__"))
    return [{ field: fieldPath([...path, "__proto__"]), problem: "the key is reserved." }];
  return Object.entries(input).flatMap(([key, value]) => reservedKeys(value, [...path, key]));
}

function issueProblems(issue: Issue, tool: Tool): Problem[] {
  const field = fieldPath(issue.path);
  if (issue.code === "unrecognized_keys") {
    const known =
      issue.path.length === 0 ? `; ${tool.name} takes ${Object.keys(tool.input.shape).join(", ")}` : "";
    return issue.keys.slice(0, 20).map((key) => ({
      field: fieldPath([...issue.path, key]),
      problem: `there is no such field${known}.`,
    }));
  }
  if (issue.code === "invalid_type" && issue.input === undefined && issue.message.includes("undefined"))
    return [{ field, problem: `is missing: expected ${issue.expected}.` }];
  return [{ field, problem: `${issue.message.replace(/\.?$/, "")}.` }];
}

/** The path of a field as the caller would write it, such as `vm_config.network.host_ports["80"]`. */
export function fieldPath(path: readonly PropertyKey[]): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else if (/^[A-Za-z_]\w{0,63}$/.test(String(part)))
      text += text === "" ? String(part) : `.${String(part)}`;
    else text += `[${JSON.stringify(String(part).slice(0, 64))}]`;
  }
  return text === "" ? "input" : text;
}
