// Settings as `--help` lists them: a line for each, with its default.

import { type ProgramName, type Setting, settingsIn } from "./setting.ts";
import { sectionsOf } from "./table.ts";

/** The settings of a program, section by section, for its `--help`. */
export function settingsHelp(program: ProgramName): string {
  const sections = sectionsOf(program).map(({ title, settings }) => ({
    title,
    listed: settingsIn(settings),
  }));
  const width = Math.max(...sections.flatMap(({ listed }) => listed.map(({ name }) => name.length))) + 1;
  return sections
    .map(({ title, listed }) => {
      const lines = listed.map((each) => `  ${each.name.padEnd(width)} ${helpLine(each)}`);
      return [`Settings of ${title}`, ...lines].join("\n");
    })
    .join("\n\n");
}

function helpLine(setting: Setting): string {
  return setting.default === null ? setting.help : `${setting.help} (default: ${setting.default})`;
}
