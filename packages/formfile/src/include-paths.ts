// What `include` may name: files and directories below the context, by relative POSIX paths. A path means
// itself: there are no patterns. `*` and `?` are refused because they are nearly always meant as one; `[` is
// taken literally, since real sources are called `[id].tsx`.

import { byteLength, show } from "./characters.ts";
import { type Check, text } from "./checks.ts";
import { FORMFILE_LIMITS } from "./limits.ts";

const any = text({
  maxBytes: FORMFILE_LIMITS.pathBytes,
  remedy: 'Name a file or a directory of the context; "." for everything.',
});

type Finding = [problem: string, remedy: string];

function objection(path: string): Finding | undefined {
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

/** A path of the context in its shortest spelling. */
export const includePath: Check<string> = (tree, path, report) => {
  const value = any(tree, path, report);
  if (value === undefined) return undefined;
  const found = objection(value);
  if (found === undefined) {
    const parts = value.split("/").filter((part) => part !== "" && part !== ".");
    return parts.length === 0 ? "." : parts.join("/");
  }
  report.add(tree.at, path, `${path} ${found[0]}: ${show(value)}.`, found[1]);
  return undefined;
};
