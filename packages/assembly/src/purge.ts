// Removes a state directory for good.

export { purge } from "./commands/purge.ts";
