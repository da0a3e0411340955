import { join } from "node:path";
import {
  fileKey,
  SECTIONS,
  SETTINGS,
  type Section,
  type Setting,
  settingsIn,
} from "@formation-mcp/assembly/settings";
import { expect, test } from "vitest";

const PAGE = join(import.meta.dirname, "../../../docs/settings.md");

const INTRODUCTION = `# Settings

This page is generated from the table in \`packages/assembly/src/settings\`; do not edit it. After a
change of the table update it with
\`npx -y pnpm@12 exec vitest run --project assembly settings-page -u\`.

Every setting is an environment variable. \`formation-mcp-http\` and \`formation-mcp-worker\` also
read them from a file (\`--config FILE\`, JSON). The key is the variable's name in lower case,
without the prefix. Keys may be written in groups, \`{"http": {"port": 3010}}\`. The command line
overrides the environment, and the environment overrides the file. An empty variable is not set.
`;

function page(): string {
  return [INTRODUCTION, ...SECTIONS.map(section)].join("\n");
}

function section({ title, programs, inFile, settings }: Section): string {
  const where = programs.map((name) => `\`${name}\``).join(", ");
  const columns = ["setting", ...(inFile ? ["key in a file"] : []), "meaning", "default"];
  const rows = settingsIn(settings).map((each) => row(each, inFile));
  return [
    `## Settings of ${title}\n`,
    `Read by ${where}.\n`,
    line(columns),
    line(columns.map(() => "---")),
    ...rows,
    "",
  ].join("\n");
}

function row(setting: Setting, inFile: boolean): string {
  const { name, help, default: usual } = setting;
  return line([`\`${name}\``, ...(inFile ? [`\`${fileKey(setting)}\``] : []), help, usual ?? ""]);
}

function line(cells: string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`.replaceAll("|  |", "| |");
}

test("docs/settings.md is the table of settings", async () => {
  await expect(page()).toMatchFileSnapshot(PAGE);
});

test("a default is shown from the schema's value alone, never written into the help", () => {
  for (const { name, help } of SETTINGS) expect(help, name).not.toMatch(/\bdefault\b|\.$/);
});

test("a default is the value that its text in help means", () => {
  const fixed = SETTINGS.flatMap(({ name, schema, default: shown, fallback }) =>
    shown === null || !/^[\w.]+$/.test(shown) || fallback({}) === null
      ? []
      : [{ name, schema, shown, fallback }],
  );
  expect(fixed.length).toBeGreaterThan(35);
  for (const { name, schema, shown, fallback } of fixed) {
    const value = fallback({});
    if (shown === "none") expect(value, name).toSatisfy((given: object) => Object.keys(given).length === 0);
    else expect(schema().parse(shown), name).toEqual(value);
  }
});
