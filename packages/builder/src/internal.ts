// Parts of the buildah driver for those who write another driver on the same ground, and for the laws of these parts. They
// may change with any release.

export { closedRanges, isReachable } from "./addresses.ts";
export { BuildCgroup, describeCgroups } from "./cgroup.ts";
export { renderContainerfile, safeWorkdir, shellWord } from "./containerfile.ts";
export { BuildOutput, readFailure } from "./output.ts";
export { EMPTY_CONFIG, portsOf, processOf } from "./process.ts";
