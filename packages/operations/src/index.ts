// The port of the store: the one database of operations, builds, deployments, instances and nodes.

export { hasLogRecord } from "./log-records.ts";
export type {
  AuditQuery,
  AuditStore,
  BuildPatch,
  Changes,
  DeploymentPatch,
  Idempotency,
  InstancePatch,
  Lease,
  NewBuild,
  NewDeployment,
  NewInstance,
  NewOperation,
  NodeRemoval,
  NodeUse,
  Outcome,
  Page,
  PageQuery,
  Store,
  Submission,
  SweepResult,
} from "./port.ts";
export { createSilentNodeCheck } from "./silent-nodes.ts";
export { waitingReason } from "./waiting-reason.ts";
