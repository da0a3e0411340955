// The store port: the one database and its rules. Every write is one transaction and compare-and-set; every legal move
// of a state is checked here; the rows, the SQL and the locking are the driver's secret.

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

/** What the store fills in by itself. */
type Filled = "version" | "created_at" | "updated_at";
export type NewBuild = Omit<Build, Filled>;
export type NewDeployment = Omit<Deployment, Filled>;
export type NewInstance = Omit<Instance, Filled>;
export type NewOperation = Pick<
  Operation,
  "id" | "owner" | "tool" | "subject" | "input" | "target_id" | "node_id" | "deadline_at"
> &
  Partial<Pick<Operation, "labels">> & {
    /** What a build needs. Of every other kind the store computes it, from the instance (`OPERATION_NEEDS`). */
    needs?: Operation["needs"];
  };

/** One request of a caller: an operation and the records it is about, written together or not at all. */
export interface Submission {
  operation: NewOperation;
  build?: NewBuild;
  deployment?: NewDeployment;
  /** A new instance; a taken name is `conflict`. */
  instance?: NewInstance;
  /** What changes on an instance that exists: what the owner desires. */
  desire?: { instance_id: Id<"vm">; version: number; desired: Instance["desired"] };
  /** Asks the unfinished operations on the same instance to cancel first (a delete does). */
  cancelOthers?: boolean;
  idempotency?: Idempotency;
  /**
   * What the owner may have; checked in the same transaction, so that no two calls share the last place. Going over it is
   * `limit` and writes nothing. A replay is never refused, and what makes nothing grow only for the operations per minute.
   */
  quota?: Quota;
}

export interface Idempotency {
  key: string;
  /** Digest of the tool's input; another input under the same key is `conflict`. */
  inputDigest: string;
}

/** A change to a record; only the fields given change. The states are checked against the tables. */
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

/** The right to write about a running operation: void as soon as `attempt` is not the newest or the lease ran out. */
export interface Lease {
  operation_id: Id<"op">;
  attempt: number;
  node_id: Id<"node">;
}

/** How an attempt ended. `queued` gives the operation back: to be tried again not before `run_at`. */
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

/** `owner: null` is every owner: for the worker, the sweep and admins only. */
export interface PageQuery {
  owner: string | null;
  limit: number;
  cursor?: string | null;
}

export interface SweepResult {
  /** Queued operations whose wake-up may be lost, with `send` already raised: publish them again. */
  resend: Operation[];
  /** Operations that the sweep ended (deadline passed) or gave back (lease ran out). */
  changed: Operation[];
  removedOperations: number;
  /** Builds removed because nothing uses them: their node removes their images and logs. */
  removedBuilds: Build[];
}

/** What a removed node left behind, as it has become. */
export interface Gone {
  instances: Instance[];
  operations: Operation[];
}

/** The machines on a node: all take disk, only those that may run take vCPUs and memory. */
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

/** Where the audit log is kept. The chain itself is made by who writes it. */
export interface AuditStore {
  /** Writes lines, all or none. @throws FormationError `conflict` if a line of that chain and number is there. */
  append(records: readonly AuditRecord[]): Promise<void>;
  /** Writes a seal, or its new time. @throws FormationError `conflict` if that line was sealed with another hash. */
  seal(seal: AuditSeal): Promise<void>;
  /** Newest first. */
  page(query: AuditQuery): Promise<Page<AuditRecord>>;
  /**
   * Chains in the order they began, each with what is kept of it (0 and 0 if only seals are) and its seals in their order:
   * what `audit verify` walks. Where age removed what was before `first_seq`, a seal holds the hash of the line before it.
   */
  chains(): Promise<{ chain: string; first_seq: number; last_seq: number; seals: AuditSeal[] }[]>;
  /** Lines of one chain in their order, from a number on. */
  read(chain: string, fromSeq: number, limit: number): Promise<AuditRecord[]>;
}

/**
 * Every method throws FormationError alone: `not_found` (also for somebody else's record), `conflict` (a stale version,
 * a taken name, a void lease, an illegal move), `unavailable` (the database can't be reached or stays locked).
 */
export interface Store {
  /** The time that its records are kept by: who compares a moment with those in them asks this clock. */
  readonly clock: Clock;
  /** Writes a submission. With an idempotency key used before (24 h) it writes nothing and returns what that made. */
  submit(submission: Submission): Promise<{ operation: Operation; replayed: boolean }>;
  /**
   * Takes the oldest queued operation that fits: its subject and its node are the claimer's, its labels among the
   * claimer's, what it needs is free, its `run_at` has come, and no older unfinished operation works on the same instance.
   * Raises `attempt` and sets the lease. A cordoned node is given only what is pinned to it.
   */
  claim(request: {
    node_id: Id<"node">;
    subjects: string[];
    /** The node's labels. Default: none. */
    labels?: Record<string, string>;
    free: Operation["needs"];
    leaseMs: number;
  }): Promise<Operation | null>;
  /** Prolongs the lease and returns the operation as it is now: look at `cancel_requested_at`. */
  renew(lease: Lease, leaseMs: number): Promise<Operation>;
  report(lease: Lease, progress: Omit<Progress, "at">): Promise<void>;
  /** Changes records in the course of an attempt. */
  apply(lease: Lease, changes: Changes): Promise<void>;
  /** Ends the attempt and changes the records, in one transaction. */
  settle(lease: Lease, outcome: Outcome, changes?: Changes): Promise<Operation>;
  /** Changes an instance outside an operation: what its node observed. `version` is what the node read. */
  observe(id: Id<"vm">, version: number, patch: InstancePatch): Promise<Instance>;

  /** A queued operation is cancelled at once with the records it was to make; a running one is asked to. Idempotent. */
  requestCancel(owner: string | null, id: Id<"op">): Promise<Operation>;

  operation(owner: string | null, id: Id<"op">): Promise<Operation>;
  build(owner: string | null, id: Id<"bld">): Promise<Build>;
  deployment(owner: string | null, id: Id<"dep">): Promise<Deployment>;
  instance(owner: string | null, id: Id<"vm">): Promise<Instance>;
  /** The instance of that name that is not deleted, or null. */
  instanceByName(owner: string, name: string): Promise<Instance | null>;
  /** The newest operation about a record, or null after it expired. */
  operationFor(target: Id): Promise<Operation | null>;
  /** What a reused idempotency key made, or null: asked before any work is done for a call. */
  replay(owner: string, tool: string, idempotency: Idempotency): Promise<Operation | null>;

  operations(query: PageQuery & { states?: OperationState[]; target?: Id }): Promise<Page<Operation>>;
  builds(query: PageQuery & { states?: BuildState[]; name?: string }): Promise<Page<Build>>;
  deployments(query: PageQuery & { instance_id?: Id<"vm">; build_id?: Id<"bld"> }): Promise<Page<Deployment>>;
  /** Without states: all that are not deleted. Metadata: every pair given must be there. */
  instances(
    query: PageQuery & { states?: InstanceState[]; metadata?: Record<string, string>; node_id?: Id<"node"> },
  ): Promise<Page<Instance>>;

  /**
   * Writes or renews this worker's node record and its heartbeat. What admins want of the node stays as it is; one that was
   * removed is there again, cordoned.
   */
  registerNode(
    node: Omit<NodeRecord, "version" | "created_at" | "updated_at" | "heartbeat_at" | "cordoned" | "drain">,
  ): Promise<NodeRecord>;
  nodes(): Promise<NodeRecord[]>;
  /** One node, or null if there is none of that id. */
  node(id: Id<"node">): Promise<NodeRecord | null>;
  /** What the machines on each node take; a node without any is left out. */
  nodeUse(): Promise<NodeUse[]>;
  /** Writes what an admin wants of a node. @throws FormationError `not_found` */
  steerNode(id: Id<"node">, wish: Pick<NodeRecord, "cordoned" | "drain">): Promise<NodeRecord>;
  /**
   * Removes a node. Its instances that were to be deleted are deleted, the others `failed`, and say why; what is pinned to
   * it fails, what else it runs is tried elsewhere after the lease.
   * @throws FormationError `not_found`; without `force` `conflict` while it has instances or runs anything.
   */
  removeNode(id: Id<"node">, options: { force: boolean }): Promise<Gone>;
  /**
   * Marks as `lost` the instances of nodes that were not heard of for `silentMs`, except those that an operation works on.
   * Their nodes bring them back.
   */
  markLost(silentMs: number): Promise<Instance[]>;

  /**
   * What an owner has now, as quotas count it: instances that are not deleted, one that is about to be replaced with the
   * larger of what it is and what it is to be; builds that are queued or running.
   */
  usage(owner: string): Promise<Usage>;
  readonly documents: Documents;
  readonly counters: Counters;
  readonly audit: AuditStore;

  /**
   * Re-sends, ends, gives back and removes what is due. Safe to run from several processes at once. With a worker's role on
   * PostgreSQL documents, counters and the audit log stay as they are: servers sweep too.
   */
  sweep(options: {
    operationKeptMs: number;
    strandedMs: number;
    unusedBuildKeptMs: number;
    /** Default: {@link LIMITS.auditKeptMs}. */
    auditKeptMs?: number;
  }): Promise<SweepResult>;
  /** Digests of the artifacts that records and documents still name. */
  artifactRoots(): Promise<string[]>;
  /** Rises whenever anything was written by any process: cheap to ask. */
  revision(): number;
  close(): Promise<void>;
}
