// The rules about how a source file is written.

import { posix } from "node:path";
import { lineAt } from "./lexer.ts";
import type { Offence } from "./offence.ts";
import type { SourceFile, Tree } from "./tree.ts";

const MAX_LINES = 400;

const isTypeScript = (file: SourceFile) => file.path.endsWith(".ts");
const isModule = (file: SourceFile) => isTypeScript(file) && file.part === "src" && file.pkg !== "";
const isTestSupport = (file: SourceFile) => isTypeScript(file) && file.part === "testing";
const isPackage = (file: SourceFile) => file.pkg.startsWith("packages/");
const isTest = (file: SourceFile) =>
  isTypeScript(file) && (file.path.endsWith(".test.ts") || file.part.startsWith("test"));
const isConfig = (file: SourceFile) => /\.config\.ts$/.test(file.path);

/** What no code says, where, and what to write instead. */
const FORBIDDEN: readonly {
  rule: string;
  where: (file: SourceFile) => boolean;
  pattern: RegExp;
  advice: string;
}[] = [
  {
    rule: "no any",
    where: isTypeScript,
    pattern:
      /(?<=(?:[:<|&,[(]|=>|\b(?:as|is|extends|satisfies|keyof|readonly))\s*)any(?![\w$]|\s*[:(.])|\bz\.any\s*\(/g,
    advice: "Write the type, or `unknown` and check it.",
  },
  {
    rule: "no console in packages",
    where: (file) => isModule(file) && isPackage(file),
    pattern: /(?<![\w$.])console\s*(?:\??\.|\[)|=\s*console\b/g,
    advice: "Standard output is the protocol: use the Logger that was passed in.",
  },
  {
    rule: "no default exports",
    where: (file) => isTypeScript(file) && !isConfig(file),
    pattern: /\bexport\s+default\b|\bas\s+default\b/g,
    advice: "Use a named export.",
  },
  {
    rule: "no export *",
    where: isTypeScript,
    pattern: /\bexport\s*\*/g,
    advice: "Name each export: the list is the public interface.",
  },
  {
    rule: "no enums",
    where: isTypeScript,
    pattern: /(?<![\w$.])enum\s+[\w$]+\s*\{/g,
    advice: "Use an array `as const` and its type.",
  },
  {
    rule: "no test is skipped, focused or put off",
    where: isTest,
    pattern:
      /\b(?:it|test|describe|suite|bench)(?:\.\w+)*\.(?:skip|only|todo|skipIf|runIf|fails)\b|\b(?:xit|xdescribe|fit|fdescribe)\s*\(|\.skip\s*\(/g,
    advice: "Run it, or delete it.",
  },
];

/** The words of work put off, written so that this file does not hold them. */
const PUT_OFF = new RegExp(
  `\\b(?:${["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"].join("|")})\\b`,
  "g",
);

/** Paths of a developer's machine: a home directory, a work directory, or where this very checkout lies. */
const MACHINE_PATH = /(?<![\w.}$/-])\/(?:home\/(?!(?:you|user|app)\/)[\w-]+|Users\/[\w-]+|work)\/[\w.-]+/g;

/** The forbidden patterns, one rule each. */
export const FORBIDDEN_RULES = FORBIDDEN.map(({ rule, where, pattern, advice }) => ({
  rule,
  find: ({ files }: Tree): Offence[] =>
    files.filter(where).flatMap((file) => matches(file, file.code, pattern, advice)),
}));

/** Files stay short enough to be read at once. */
export function lengths({ files }: Tree): Offence[] {
  return files
    .filter((file) => (isModule(file) || isTestSupport(file)) && linesOf(file.text) > MAX_LINES)
    .map((file) => ({
      path: file.path,
      line: MAX_LINES + 1,
      advice: `${linesOf(file.text)} lines, ${MAX_LINES} at most: find a second responsibility and give it a module of its own.`,
    }));
}

/** Every module says first what it is responsible for. */
export function openings({ files }: Tree): Offence[] {
  return files
    .filter((file) => isModule(file) || isTestSupport(file))
    .filter((file) => !/^(?:#!.*\n)?\s*(?:\/\/\s*\S|\/\*\*?\s*\S)/.test(file.text))
    .map((file) => ({
      path: file.path,
      line: 1,
      advice: "Open with a comment of one to four sentences: what is this module responsible for?",
    }));
}

/** What is put off goes into an issue, not into the sources. */
export function putOff({ files }: Tree): Offence[] {
  return files.flatMap((file) => matches(file, file.text, PUT_OFF, "Do it now, or write an issue."));
}

/** No file knows where one developer keeps things. */
export function machinePaths({ files }: Tree, root: string): Offence[] {
  const advice = "No path of one machine: make it relative, or take it as an option.";
  const escaped = root.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const here = new RegExp(`(?<![\\w./-])${escaped}(?![\\w-])`, "g");
  return files.flatMap((file) => [
    ...matches(file, file.text, MACHINE_PATH, advice),
    ...(posix.dirname(root) === "/" ? [] : matches(file, file.text, here, advice)),
  ]);
}

function matches(file: SourceFile, text: string, pattern: RegExp, advice: string): Offence[] {
  return [...text.matchAll(pattern)].map((match) => ({
    path: file.path,
    line: lineAt(text, match.index),
    advice: `\`${(file.text.slice(match.index, match.index + match[0].length).split("\n")[0] ?? "").trim()}\`: ${advice}`,
  }));
}

function linesOf(text: string): number {
  return text.trimEnd().split("\n").length;
}
