// What `include` may name: files and directories below the context, by relative POSIX paths. There are no
// patterns. `*` and `?` are refused because they are nearly always meant as a pattern; `[` is literal,
// because real files are called `[id].tsx`.

import { byteLength, quote } from "./characters.ts";
import { type Check, stringCheck } from "./checks.ts";
import { FORMFILE_LIMITS } from "./limits.ts";

const anyPath = stringCheck({
  maxBytes: FORMFILE_LIMITS.pathBytes,
  remedy: 'Name a file or a directory of the context; "." for everything.',
});

/** Why a path is refused; undefined if it is not. */
function refusalOf(path: string): [problem: string, remedy: string] | undefined {
  const parts = path.split("/");
  if (path.startsWith("/") || /^[A-Za-z]:[/\\]/.test(path))
    return ["is an absolute path", "Write it relative to the context directory, without a leading /."];
  if (path.startsWith("~"))
    return [
      "begins with ~",
      "Write it relative to the context directory; home directories are out of reach.",
    ];
  if (path.includes("\\")) return ["holds a backslash", "Separate directories with /."];
  if (parts.includes(".."))
    return ['climbs with ".."', "Move the files into the context directory and name them there."];
  if (/[*?]/.test(path))
    return [
      "looks like a pattern",
      "Patterns are not expanded. Name the directory: everything below it is taken.",
    ];
  if (parts.some((part) => byteLength(part) > FORMFILE_LIMITS.pathComponentBytes))
    return [`has a component of more than ${FORMFILE_LIMITS.pathComponentBytes} bytes`, "Shorten the name."];
  return undefined;
}

/** A path below the context, normalized: without empty and `.` components. */
export const includePath: Check<string> = (tree, path, report) => {
  const value = anyPath(tree, path, report);
  if (value === undefined) return undefined;
  const refusal = refusalOf(value);
  if (refusal === undefined) {
    const parts = value.split("/").filter((part) => part !== "" && part !== ".");
    return parts.length === 0 ? "." : parts.join("/");
  }
  report.add(tree.at, path, `${path} ${refusal[0]}: ${quote(value)}.`, refusal[1]);
  return undefined;
};
