// Small helpers that any package may need at run time. Nothing here knows Node, a browser or the domain.

export { Bell } from "./bell.ts";
export { everyItem, type Page } from "./every-item.ts";
export { createKeyedLock, type KeyedLock } from "./keyed-lock.ts";
export { ByteLineSplitter, type OnLine, TextLineSplitter } from "./line-splitter.ts";
export { editDistance, nearestName } from "./nearest-name.ts";
export { type PeriodicTask, type PeriodicTaskOptions, startPeriodicTask } from "./periodic-task.ts";
export {
  escapeHidden,
  hasControls,
  replaceUnprintable,
  withoutControls,
  withoutEscapeSequences,
  withoutInvisible,
} from "./plain-text.ts";
export {
  GLOBAL_IPV6,
  PRIVATE_IPV4,
  PRIVATE_IPV6,
  SPECIAL_IPV4,
  SPECIAL_IPV6,
} from "./private-networks.ts";
