// A file of settings: JSON with the names of the environment variables in lower case, whole or in groups, without the
// prefix: `{"http": {"port": 3010}, "log_level": "warn"}`. It becomes what the environment would say.

import { readFileSync } from "node:fs";

/** Lists that the environment separates by something else than a comma. */
const SEPARATORS: Readonly<Record<string, string>> = { FORMATION_ALLOW_DIR: ":" };
const FILE_BYTES = 1024 * 1024;

/**
 * Reads settings.
 * @param known the variables that there are.
 * @returns what is set, and every problem of the file, one line each.
 */
export function readSettingsFile(
  path: string,
  known: readonly string[],
): { given: Record<string, string>; problems: string[] } {
  let value: unknown;
  try {
    const text = readFileSync(path, "utf8");
    if (text.length > FILE_BYTES) return { given: {}, problems: [`${path}: the file is larger than 1 MiB`] };
    value = JSON.parse(text);
  } catch (error) {
    const why = error instanceof SyntaxError ? "it is not JSON" : (error as Error).message;
    return { given: {}, problems: [`${path}: ${why}`] };
  }
  const given: Record<string, string> = {};
  const problems: string[] = [];
  const walk = (at: unknown, names: readonly string[]) => {
    const written = names.join(".");
    const name = variableOf(names, known);
    if (name !== undefined && (!isGroup(at) || at === null)) {
      if (name in given) problems.push(`${path}: ${written}: ${name} is set twice`);
      const text = textOf(at, SEPARATORS[name] ?? ",");
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

function variableOf(names: readonly string[], known: readonly string[]): string | undefined {
  const name = names.join("_").toUpperCase();
  return known.find((each) => each === name || each === `FORMATION_${name}`);
}

/** The text that the environment would have; null for what it can't say. An absent setting is an empty text. */
function textOf(value: unknown, separator: string): string | null {
  if (value === null) return "";
  if (Array.isArray(value)) {
    return value.every((each) => typeof each === "string") ? value.join(separator) : null;
  }
  return ["string", "number", "boolean"].includes(typeof value) ? String(value) : null;
}
