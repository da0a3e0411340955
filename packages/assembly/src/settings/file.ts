// A settings file: JSON with the names of the environment variables in lower case and without the prefix,
// whole or in groups: `{"http": {"port": 3010}, "log_level": "warn"}`. It is read into variables, as if they
// were in the environment.

import { readFileSync } from "node:fs";
import { fileKey, type Setting } from "./setting.ts";

const MAX_FILE_BYTES = 1024 * 1024;

/**
 * Reads a settings file.
 * @param known the settings that it may hold.
 * @returns the variables that it sets, and every problem of the file, one line each.
 */
export function readSettingsFile(
  path: string,
  known: readonly Setting[],
): { given: Record<string, string>; problems: string[] } {
  let value: unknown;
  try {
    const text = readFileSync(path, "utf8");
    if (text.length > MAX_FILE_BYTES)
      return { given: {}, problems: [`${path}: the file is larger than 1 MiB`] };
    value = JSON.parse(text);
  } catch (error) {
    const why = error instanceof SyntaxError ? "it is not JSON" : (error as Error).message;
    return { given: {}, problems: [`${path}: ${why}`] };
  }
  const given: Record<string, string> = {};
  const problems: string[] = [];
  const walk = (at: unknown, names: readonly string[]) => {
    const written = names.join(".");
    const setting = settingOf(names, known);
    if (setting && !isGroup(at)) {
      const { name, separator = "," } = setting;
      if (name in given) problems.push(`${path}: ${written}: ${name} is set twice`);
      const text = textOf(at, separator);
      if (text === null)
        problems.push(`${path}: ${written}: write a text, a number, true, false or a list of texts`);
      else given[name] = text;
    } else if (isGroup(at)) {
      for (const [key, inner] of Object.entries(at)) walk(inner, [...names, key]);
    } else {
      problems.push(
        `${path}: ${written === "" ? "the file must hold an object" : `there is no setting ${written}`}`,
      );
    }
  };
  walk(value, []);
  return { given, problems };
}

function isGroup(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The setting of a key, which may have the prefix, in any case. */
function settingOf(names: readonly string[], known: readonly Setting[]): Setting | undefined {
  const key = names.join("_").toLowerCase();
  return known.find((each) => key === fileKey(each) || key === each.name.toLowerCase());
}

/**
 * The text that the variable would have, or null for a value that no variable can have. JSON's null is an
 * empty text: not set.
 */
function textOf(value: unknown, separator: string): string | null {
  if (value === null) return "";
  if (Array.isArray(value)) {
    return value.every((each) => typeof each === "string") ? value.join(separator) : null;
  }
  return ["string", "number", "boolean"].includes(typeof value) ? String(value) : null;
}
