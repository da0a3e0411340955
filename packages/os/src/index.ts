// What packages need of the operating system: child processes with limits, atomic files, process identities
// and waiting.

export { readFileIfPresent, removeTemporaryFiles, syncDirectory, writeFileAtomic } from "./atomic-files.ts";
export {
  groupMembers,
  identify,
  isAlive,
  type ProcessIdentity,
  sendSignal,
  waitForExit,
} from "./processes.ts";
export { ownProfile, type Profile } from "./profile.ts";
export {
  type DetachedOptions,
  plainEnvironment,
  type RunOptions,
  type RunResult,
  run,
  runChecked,
  spawnDetached,
} from "./run.ts";
export { uptimeMs } from "./uptime.ts";
export { type Truthy, type WaitOptions, waitFor } from "./wait.ts";
