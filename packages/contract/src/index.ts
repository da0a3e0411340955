// Every noun that crosses a process: records, ids, states as tables, messages, errors and limits.

export type { AuditEvent, AuditRecord, AuditSeal } from "./audit.ts";
export type { Counters, DocumentQuery, Documents, NewDocument, StoredDocument } from "./documents.ts";
export {
  ERROR_CODES,
  type ErrorCode,
  type ErrorDetails,
  type ErrorRecord,
  FormationError,
} from "./errors.ts";
export { type Clock, ID_KINDS, type Id, type IdKind, idKind, newId, parseId, systemClock } from "./ids.ts";
export { LIMITS } from "./limits.ts";
export { type Logger, silentLogger } from "./logger.ts";
export {
  ALL_NODES,
  type ChangeEvent,
  controlSubject,
  DRAIN_TOOL,
  parseChangeEvent,
  parseWakeMessage,
  SUBJECTS,
  type WakeMessage,
} from "./messages.ts";
export {
  checkLabels,
  covers,
  DRAINS,
  type Drain,
  hasLabels,
  isHeard,
  type Placement,
  suits,
} from "./nodes.ts";
export { logFailure, quietly } from "./quietly.ts";
export { NO_QUOTA, type Quota, type Usage } from "./quotas.ts";
export type {
  Build,
  Deployment,
  Endpoint,
  Image,
  Instance,
  InstanceConfig,
  NodeRecord,
  Observed,
  Operation,
  OperationInput,
  Process,
  Progress,
} from "./records.ts";
export { type Holder, heldBy, machineOf, requiredFor } from "./resources.ts";
export {
  BUILD_STATES,
  type BuildState,
  CONTROL_ACTIONS,
  type ControlAction,
  canMove,
  DEPLOYMENT_STATES,
  type DeploymentState,
  hasEnded,
  INSTANCE_DESIRES,
  INSTANCE_HOLDINGS,
  INSTANCE_STATES,
  type InstanceDesire,
  type InstanceState,
  isFinal,
  LOSABLE_STATES,
  OPERATION_NEEDS,
  OPERATION_STATES,
  type OperationState,
  RESTING_STATES,
  UP_STATES,
} from "./states.ts";
