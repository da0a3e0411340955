// What every room needs of the operating system: bounded child processes, atomic files, process identities, waiting.

export { readIfThere, removeTemporaries, syncDirectory, writeFileAtomic } from "./files.ts";
export { groupMembers, identify, isAlive, type ProcessIdentity, sendSignal, waitGone } from "./processes.ts";
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
