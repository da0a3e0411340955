// How the issues of a formfile become one error that lists all of them.

import { FormationError } from "@formation-mcp/contract";
import { type FormfileIssue, formfileError } from "@formation-mcp/formfile";

/**
 * @param names the names of the tool's own fields by the formfile key that they set.
 * @throws FormationError `invalid` with every issue: path, line, column, problem and remedy.
 */
export function throwFormfileIssues(issues: readonly FormfileIssue[], names?: Record<string, string>): never {
  const renamed = issues.map((issue) => {
    const [head = ""] = issue.path.split(/[.[]/, 1);
    const name = names?.[head];
    return name ? { ...issue, path: name + issue.path.slice(head.length) } : issue;
  });
  const path = renamed[0]?.path ?? "";
  throw new FormationError("invalid", formfileError(renamed), {
    field: names
      ? path || "image"
      : path === ""
        ? "formfile"
        : path.startsWith("[")
          ? `formfile${path}`
          : `formfile.${path}`,
    remedy: names
      ? "Correct what is listed and call vm_create again."
      : "Correct what is listed and call pack_build again; dry_run: true only checks.",
  });
}
