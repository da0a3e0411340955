// What each tool does: scope, ownership, records, operations.

export type { Audit, Audited } from "./audit.ts";
export { type ControlOptions, createControl } from "./control.ts";
export type { CallHooks, Control } from "./port.ts";
