// The one database: operations, builds, deployments, instances and nodes.

export { isLogNamed } from "./log-records.ts";
export type {
  AuditQuery,
  AuditStore,
  BuildPatch,
  Changes,
  DeploymentPatch,
  Gone,
  Idempotency,
  InstancePatch,
  Lease,
  NewBuild,
  NewDeployment,
  NewInstance,
  NewOperation,
  NodeUse,
  Outcome,
  Page,
  PageQuery,
  Store,
  Submission,
  SweepResult,
} from "./port.ts";
export { lookForSilent } from "./silent-nodes.ts";
export { waitingFor } from "./waiting-reason.ts";
