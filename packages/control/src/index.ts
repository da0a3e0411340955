// The domain of each tool: scope, ownership, quotas, records and operations; and the audit log.

export { createQuotas, type Quotas, type QuotasOptions } from "./access/quotas.ts";
export { type Audit, type AuditOptions, openAudit } from "./audit/audit.ts";
export type { AuditEntry } from "./audit/chain.ts";
export { type AuditProblem, type AuditVerdict, verifyAudit } from "./audit/verify.ts";
export type { ToolBounds } from "./authorize.ts";
export { type ControlOptions, createControl } from "./control.ts";
export { type DeadLetterView, listDeadLetters } from "./fleet/dead-letters.ts";
export { type Drainer, type DrainerOptions, startDrainer } from "./fleet/drain.ts";
export { type Maintenance, type MaintenanceOptions, startMaintenance } from "./fleet/maintenance.ts";
export { createNodes, type Nodes, type NodesOptions, type NodeView } from "./fleet/nodes.ts";
export type { CallHooks, Control } from "./port.ts";
