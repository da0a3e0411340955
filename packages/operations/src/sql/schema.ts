// The types of the tables. What queries filter or sort by is a column; what is only stored and returned is
// JSON. Nothing outside this package knows them.

import type {
  AuditRecord,
  BuildState,
  DeploymentState,
  Drain,
  Id,
  InstanceDesire,
  InstanceState,
  OperationState,
} from "@formation-mcp/contract";
import type { Generated, GeneratedAlways, Selectable } from "kysely";

/** Text that holds JSON. */
type Json = string;
/** 0 or 1: SQLite has no boolean. */
type Flag = number;

interface Base {
  /** The order of insertion. Lists and claims use it, because clocks may be wrong. */
  seq: Generated<number>;
  owner: string;
  version: number;
  created_at: number;
  updated_at: number;
}

interface OperationTable extends Base {
  id: Id<"op">;
  tool: string;
  state: OperationState;
  subject: string;
  input: Json;
  target_id: Id;
  /**
   * Operations with the same key run one after the other: the instance, or the build of a build operation.
   */
  serial_key: Id;
  node_id: Id<"node"> | null;
  /** As `labels.ts` writes them; null for none. */
  labels: string | null;
  vcpus: number;
  memory_mb: number;
  disk_gb: number;
  attempt: number;
  send: number;
  sent_at: number;
  claimed_by: Id<"node"> | null;
  lease_until: number | null;
  deadline_at: number;
  run_at: number;
  cancel_requested_at: number | null;
  /** The instance's `desired` before and after this operation wrote it; a cancel restores it. */
  desire_from: InstanceDesire | null;
  desire_to: InstanceDesire | null;
  progress: Json | null;
  error: Json | null;
  started_at: number | null;
  ended_at: number | null;
  expires_at: number | null;
}

interface BuildTable extends Base {
  id: Id<"bld">;
  name: string;
  state: BuildState;
  formfile: Json;
  context_digest: string | null;
  image: Json | null;
  /** The digest of the image's archive, copied from `image` for its index. */
  archive: string | null;
  warnings: Json;
  metadata: Json;
  error: Json | null;
  node_id: Id<"node"> | null;
  used_at: number;
  operation_id: Id<"op">;
  started_at: number | null;
  ended_at: number | null;
}

interface DeploymentTable extends Base {
  id: Id<"dep">;
  build_id: Id<"bld">;
  instance_id: Id<"vm">;
  instance_name: string;
  state: DeploymentState;
  config: Json;
  replace: Flag;
  machine_id: string | null;
  error: Json | null;
  operation_id: Id<"op">;
  ended_at: number | null;
}

interface InstanceTable extends Base {
  id: Id<"vm">;
  name: string;
  desired: InstanceDesire;
  state: InstanceState;
  node_id: Id<"node"> | null;
  deployment_id: Id<"dep"> | null;
  machine_id: string | null;
  build_id: Id<"bld">;
  config: Json;
  warnings: Json;
  observed: Json | null;
  error: Json | null;
  /** Generated from `config`. */
  vcpus: GeneratedAlways<number>;
  memory_mb: GeneratedAlways<number>;
  disk_gb: GeneratedAlways<number>;
}

/** The metadata of instances, one row per pair, so that a filter by it is an index lookup. */
interface MetadataTable {
  key: string;
  value: string;
  owner: string;
  instance_seq: number;
}

interface NodeTable {
  id: Id<"node">;
  version: number;
  created_at: number;
  updated_at: number;
  name: string;
  labels: Json;
  capacity: Json;
  engine: Json;
  heartbeat_at: number;
  pid: number;
  program: string;
  draining: Flag;
  cordoned: Generated<Flag>;
  drain: Drain | null;
  /**
   * When the node was removed, in milliseconds since the epoch. The row stays for the case that its worker
   * runs on.
   */
  removed_at: number | null;
}

interface IdempotencyTable {
  owner: string;
  tool: string;
  key: string;
  input_digest: string;
  operation_id: Id<"op">;
  /** A copy of the operation, made when its own row was removed: the key is kept longer. */
  operation: Json | null;
  expires_at: number;
}

interface DocumentTable {
  seq: Generated<number>;
  kind: string;
  id: string;
  owner: string | null;
  group: string | null;
  alias: string | null;
  artifact: string | null;
  doc: Json;
  version: number;
  created_at: number;
  updated_at: number;
  expires_at: number | null;
}

interface CounterTable {
  key: string;
  window_start: number;
  spent: number;
  expires_at: number;
}

interface AuditTable {
  /** The order of insertion, for lines with the same time. */
  id: Generated<number>;
  chain: string;
  seq: number;
  at: number;
  owner: string | null;
  credential: string | null;
  action: string;
  target: string | null;
  outcome: AuditRecord["outcome"];
  address: string | null;
  trace_id: string | null;
  hash: string;
}

interface SealTable {
  chain: string;
  seq: number;
  hash: string;
  at: number;
}

/** A view for workers on PostgreSQL: the digests that documents name. */
interface DocumentArtifacts {
  artifact: string;
  expires_at: number | null;
}

export interface Tables {
  operations: OperationTable;
  builds: BuildTable;
  deployments: DeploymentTable;
  instances: InstanceTable;
  instance_metadata: MetadataTable;
  nodes: NodeTable;
  idempotency: IdempotencyTable;
  documents: DocumentTable;
  document_artifacts: DocumentArtifacts;
  counters: CounterTable;
  audit: AuditTable;
  audit_seals: SealTable;
  meta: { key: string; value: string };
}

export type OperationRow = Selectable<OperationTable>;
export type BuildRow = Selectable<BuildTable>;
export type DeploymentRow = Selectable<DeploymentTable>;
export type InstanceRow = Selectable<InstanceTable>;

/** An instance without its generated columns, which SQLite computes at each read. */
export type PlainInstanceRow = Omit<InstanceRow, "vcpus" | "memory_mb" | "disk_gb">;
export const PLAIN_INSTANCE = [
  "seq",
  "id",
  "version",
  "created_at",
  "updated_at",
  "owner",
  "name",
  "desired",
  "state",
  "node_id",
  "deployment_id",
  "machine_id",
  "build_id",
  "config",
  "warnings",
  "observed",
  "error",
] as const satisfies readonly (keyof PlainInstanceRow)[];
export type NodeRow = Selectable<NodeTable>;
export type DocumentRow = Selectable<DocumentTable>;
export type AuditRow = Selectable<AuditTable>;
