// What every room needs of the operating system: bounded child processes, atomic files, process identities, waiting.

export { readIfThere, syncDirectory, writeFileAtomic } from "./files.ts";
export { identify, isAlive, type ProcessIdentity, sendSignal, waitGone } from "./processes.ts";
export {
  type DetachedOptions,
  plainEnvironment,
  type RunOptions,
  type RunResult,
  run,
  runChecked,
  spawnDetached,
} from "./run.ts";
export { type WaitOptions, waitFor } from "./wait.ts";
