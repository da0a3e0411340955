// The settings alone: the table, its help, and the configuration of a server's client. Works on Node 20.

export { type Configuration, readConfiguration, warnUnknownVariables } from "./settings/configuration.ts";
export { settingsHelp } from "./settings/help.ts";
export { unknownVariables } from "./settings/names.ts";
export { type RemoteConfiguration, readRemoteConfiguration } from "./settings/remote-configuration.ts";
export { fileKey, type Section, type Setting, settingsIn } from "./settings/setting.ts";
export { startsWorker } from "./settings/shared.ts";
export { SECTIONS, SETTINGS } from "./settings/table.ts";
