// What each tool does: scope, ownership, records, operations.

export { type ControlOptions, createControl } from "./control.ts";
export type { CallHooks, Control } from "./port.ts";
