// The one database: operations, builds, deployments, instances and nodes.

export { isLogNamed } from "./log-names.ts";
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
export { lookForSilent } from "./silence.ts";
export { waitingFor } from "./waiting.ts";
