// The table of all settings. Help, settings files, docs/settings.md and the check of names read it; a new
// setting needs nothing but its value in one of these sections and the place where it acts.

import { HTTP } from "./http.ts";
import { MACHINE } from "./machine.ts";
import { NODE } from "./node.ts";
import { REMOTE } from "./remote.ts";
import { type ProgramName, type Section, type Setting, settingsIn } from "./setting.ts";
import { SHARED } from "./shared.ts";

export const SECTIONS: readonly Section[] = [HTTP, NODE, MACHINE, SHARED, REMOTE];

/** Every setting, once. */
export const SETTINGS: readonly Setting[] = SECTIONS.flatMap(({ settings }) => settingsIn(settings));

/** The sections of a program's settings. */
export function sectionsOf(program: ProgramName): Section[] {
  return SECTIONS.filter(({ programs }) => programs.includes(program));
}

/** The settings that a program's settings file may hold. */
export function fileSettingsOf(program: ProgramName): Setting[] {
  return sectionsOf(program).flatMap(({ inFile, settings }) => (inFile ? settingsIn(settings) : []));
}
