// The settings of a client of a server. Works on Node 20.

export { type RemoteConfiguration, readRemoteConfiguration } from "./settings/remote-configuration.ts";
export { REMOTE_VARIABLES } from "./settings/variables.ts";
