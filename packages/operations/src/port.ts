// The port of the store: the one database and its rules. Every write is one transaction with compare-and-set,
// and every move of a state is checked against the contract's tables. Rows, SQL and locks are hidden behind
// it.

import type {
  AuditRecord,
  AuditSeal,
  Build,
  BuildState,
  Clock,
  Counters,
  Deployment,
  Documents,
  ErrorRecord,
  Id,
  Instance,
  InstanceState,
  NodeRecord,
  Operation,
  OperationState,
  Progress,
  Quota,
  Usage,
} from "@formation-mcp/contract";

/** The fields that the store fills in. */
type StoreFields = "version" | "created_at" | "updated_at";
export type NewBuild = Omit<Build, StoreFields>;
export type NewDeployment = Omit<Deployment, StoreFields>;
export type NewInstance = Omit<Instance, StoreFields>;
export type NewOperation = Pick<
  Operation,
  "id" | "owner" | "tool" | "subject" | "input" | "target_id" | "node_id" | "deadline_at"
> &
  Partial<Pick<Operation, "labels">> & {
    /**
     * What a build needs. Of every other kind the store computes it, from the instance (`OPERATION_NEEDS`).
     */
    needs?: Operation["needs"];
  };

/** One request of a caller: an operation and the records that it is about, written together or not at all. */
export interface Submission {
  operation: NewOperation;
  build?: NewBuild;
  deployment?: NewDeployment;
  /** A new instance. A name that is taken is `conflict`. */
  instance?: NewInstance;
  /** The owner's new `desired` of an existing instance. Another `version` than the record's is `conflict`. */
  desire?: { instance_id: Id<"vm">; version: number; desired: Instance["desired"] };
  /** Cancels the unfinished operations on the same instance first, as a delete does. */
  cancelOthers?: boolean;
  idempotency?: Idempotency;
  /**
   * The owner's quota, checked in the same transaction, so that two calls cannot take the same last place.
   * Exceeding it is `limit` and writes nothing. A replay is never refused. A submission that makes nothing
   * grow is refused only for the operations per minute.
   */
  quota?: Quota;
}

export interface Idempotency {
  key: string;
  /** Digest of the tool's input. Another input under the same key is `conflict`. */
  inputDigest: string;
}

/** A change to a record. Only the given fields change; a new state must be a legal move. */
export type BuildPatch = Partial<
  Pick<Build, "state" | "image" | "error" | "warnings" | "node_id" | "used_at" | "started_at" | "ended_at">
>;
export type DeploymentPatch = Partial<Pick<Deployment, "state" | "machine_id" | "error" | "ended_at">>;
export type InstancePatch = Partial<
  Pick<
    Instance,
    | "desired"
    | "state"
    | "node_id"
    | "deployment_id"
    | "machine_id"
    | "build_id"
    | "config"
    | "warnings"
    | "observed"
    | "error"
  >
>;

export interface Changes {
  builds?: { id: Id<"bld">; patch: BuildPatch }[];
  deployments?: { id: Id<"dep">; patch: DeploymentPatch }[];
  instances?: { id: Id<"vm">; patch: InstancePatch }[];
}

/**
 * The right to write about a running operation. It is void once a newer attempt began or the lease ran out.
 */
export interface Lease {
  operation_id: Id<"op">;
  attempt: number;
  node_id: Id<"node">;
}

/**
 * How an attempt ended. `queued` gives the operation back to the queue; it is claimed at `run_at` at the
 * earliest.
 */
export type Outcome =
  | { state: "completed" }
  | { state: "failed"; error: ErrorRecord }
  | { state: "cancelled"; error: ErrorRecord }
  | { state: "queued"; run_at: number; error: ErrorRecord };

export interface Page<T> {
  items: T[];
  /** Opaque; null on the last page. */
  cursor: string | null;
}

/** `owner: null` means every owner; only workers, sweeps and admins may ask so. */
export interface PageQuery {
  owner: string | null;
  limit: number;
  cursor?: string | null;
}

export interface SweepResult {
  /**
   * Queued operations whose wake-up may be lost, with `send` already raised. The caller publishes them again.
   */
  resend: Operation[];
  /** Operations that the sweep ended or gave back to the queue. */
  changed: Operation[];
  removedOperations: number;
  /** Builds removed because nothing used them. The caller removes their images and logs. */
  removedBuilds: Build[];
}

/** The records that the removal of a node changed, as they are afterwards. */
export interface NodeRemoval {
  instances: Instance[];
  operations: Operation[];
}

/**
 * The resources that the machines of a node take. All take disk; those that may run take vCPUs and memory.
 */
export interface NodeUse extends Pick<Operation["needs"], "vcpus" | "memory_mb" | "disk_gb"> {
  node_id: Id<"node">;
  instances: number;
}

export interface AuditQuery {
  limit: number;
  cursor?: string | null;
  owner?: string;
  action?: string;
  outcome?: AuditRecord["outcome"];
  /** Milliseconds since the epoch: `since` ≤ at < `until`. */
  since?: number;
  until?: number;
  chain?: string;
}

/** The storage of the audit log. The writer computes the hash chain. */
export interface AuditStore {
  /**
   * Inserts lines, all or none.
   * @throws FormationError `conflict` if a line with the same chain and number exists.
   */
  append(records: readonly AuditRecord[]): Promise<void>;
  /**
   * Writes a seal, or its new time.
   * @throws FormationError `conflict` if the line was sealed with another hash.
   */
  seal(seal: AuditSeal): Promise<void>;
  /** Newest first. */
  page(query: AuditQuery): Promise<Page<AuditRecord>>;
  /**
   * All chains in the order in which they began, each with its first and last line (0 and 0 if only seals are
   * left) and its seals in order, for `audit verify`. If lines before `first_seq` were removed, a seal holds
   * the hash of the last of them.
   */
  chains(): Promise<{ chain: string; first_seq: number; last_seq: number; seals: AuditSeal[] }[]>;
  /** Lines of one chain in their order, beginning with number `fromSeq`. */
  read(chain: string, fromSeq: number, limit: number): Promise<AuditRecord[]>;
}

/**
 * Every method throws only FormationErrors: `not_found` (also for another owner's record), `conflict` (a
 * stale version, a taken name, a void lease, an illegal move of a state), `unavailable` (the database can't
 * be reached or stays locked).
 */
export interface Store {
  /** The clock of the times in its records. A moment that is compared with them must come from this clock. */
  readonly clock: Clock;
  /**
   * Writes a submission. If its idempotency key was used within 24 h it writes nothing and returns that
   * operation.
   */
  submit(submission: Submission): Promise<{ operation: Operation; replayed: boolean }>;
  /**
   * Claims the oldest queued operation that fits: its subject is one of these, it is for any node or for this
   * one, the node has its labels and what it needs free, its `run_at` has come, and no older unfinished
   * operation is on the same instance. Raises `attempt` and sets the lease. A cordoned node gets only
   * operations that are pinned to it.
   */
  claim(request: {
    node_id: Id<"node">;
    subjects: string[];
    /** The node's labels. Default: none. */
    labels?: Record<string, string>;
    free: Operation["needs"];
    leaseMs: number;
  }): Promise<Operation | null>;
  /** Prolongs the lease and returns the operation, whose `cancel_requested_at` the worker has to obey. */
  renew(lease: Lease, leaseMs: number): Promise<Operation>;
  /** Writes the progress of the attempt. */
  report(lease: Lease, progress: Omit<Progress, "at">): Promise<void>;
  /** Changes records during an attempt. */
  apply(lease: Lease, changes: Changes): Promise<void>;
  /** Ends the attempt and changes the records, in one transaction. */
  settle(lease: Lease, outcome: Outcome, changes?: Changes): Promise<Operation>;
  /**
   * Writes what a node observed of an instance, outside an operation. `version` is the one that the node
   * read.
   */
  observe(id: Id<"vm">, version: number, patch: InstancePatch): Promise<Instance>;

  /**
   * Cancels a queued operation at once, with the records it was to make; asks a running one to end.
   * Idempotent.
   */
  requestCancel(owner: string | null, id: Id<"op">): Promise<Operation>;

  operation(owner: string | null, id: Id<"op">): Promise<Operation>;
  build(owner: string | null, id: Id<"bld">): Promise<Build>;
  deployment(owner: string | null, id: Id<"dep">): Promise<Deployment>;
  instance(owner: string | null, id: Id<"vm">): Promise<Instance>;
  /** The instance of that name that is not deleted, or null. */
  instanceByName(owner: string, name: string): Promise<Instance | null>;
  /** The newest operation about a record, or null after it expired. */
  operationFor(target: Id): Promise<Operation | null>;
  /** The operation that an earlier use of the key made, or null. Asked before any work is done for a call. */
  replay(owner: string, tool: string, idempotency: Idempotency): Promise<Operation | null>;

  operations(query: PageQuery & { states?: OperationState[]; target?: Id }): Promise<Page<Operation>>;
  builds(query: PageQuery & { states?: BuildState[]; name?: string }): Promise<Page<Build>>;
  deployments(query: PageQuery & { instance_id?: Id<"vm">; build_id?: Id<"bld"> }): Promise<Page<Deployment>>;
  /** Without `states`: all that are not deleted. With `metadata`: those that have every given pair. */
  instances(
    query: PageQuery & { states?: InstanceState[]; metadata?: Record<string, string>; node_id?: Id<"node"> },
  ): Promise<Page<Instance>>;

  /**
   * Inserts or updates this worker's node record, with its heartbeat. It does not change cordon and drain,
   * which are the admins'. A node that was removed exists again, cordoned.
   */
  registerNode(
    node: Omit<NodeRecord, "version" | "created_at" | "updated_at" | "heartbeat_at" | "cordoned" | "drain">,
  ): Promise<NodeRecord>;
  nodes(): Promise<NodeRecord[]>;
  /** One node, or null. */
  node(id: Id<"node">): Promise<NodeRecord | null>;
  /** The resources in use on each node that has machines. */
  nodeUse(): Promise<NodeUse[]>;
  /** Writes an admin's cordon and drain of a node. @throws FormationError `not_found` */
  setNodeScheduling(id: Id<"node">, wish: Pick<NodeRecord, "cordoned" | "drain">): Promise<NodeRecord>;
  /**
   * Removes a node. Its instances become `failed` with the reason, or deleted if that was desired. Operations
   * pinned to it fail; others that it runs are tried on another node after their lease.
   * @throws FormationError `not_found`; without `force` also `conflict` while it has instances or unfinished
   *   operations.
   */
  removeNode(id: Id<"node">, options: { force: boolean }): Promise<NodeRemoval>;
  /**
   * Marks the instances of nodes without a heartbeat for `silentMs` as `lost`, except those with a running
   * operation. A node that is back reports them again.
   */
  markLost(silentMs: number): Promise<Instance[]>;

  /**
   * What an owner has now, as quotas count it: instances that are not deleted, and builds that are queued or
   * running. An instance that is being replaced counts with the larger of its present and its future size.
   */
  usage(owner: string): Promise<Usage>;
  readonly documents: Documents;
  readonly counters: Counters;
  readonly audit: AuditStore;

  /**
   * Ends operations past their deadline, gives back those whose lease ran out, raises `send` of those whose
   * wake-up may be lost, and removes records past their retention. Several processes may sweep at once. A
   * worker's role on PostgreSQL leaves documents, counters and the audit log to the servers' sweeps.
   */
  sweep(options: {
    operationKeptMs: number;
    strandedMs: number;
    unusedBuildKeptMs: number;
    /** Default: {@link LIMITS.auditKeptMs}. */
    auditKeptMs?: number;
  }): Promise<SweepResult>;
  /** The digests of the artifacts that builds and documents still name. */
  artifactRoots(): Promise<string[]>;
  /** A number that rises when any process has written. Cheap to call. */
  revision(): number;
  close(): Promise<void>;
}
