// The records of the system, as every process and every store sees them. Times are milliseconds since the epoch.

import type { Formfile, Resources } from "@formation-mcp/formfile";
import type { ErrorRecord } from "./errors.ts";
import type { Id } from "./ids.ts";
import type { Drain } from "./nodes.ts";
import type {
  BuildState,
  ControlAction,
  DeploymentState,
  InstanceDesire,
  InstanceState,
  OperationState,
} from "./states.ts";

/** What every record has. `version` rises with each change; a change names the version it read (compare-and-set). */
interface RecordBase {
  owner: string;
  version: number;
  created_at: number;
  updated_at: number;
}

/** How to start the workload inside the machine. Made from the base image's configuration and the formfile. */
export interface Process {
  /** Absolute or looked up in PATH, run as it is: never a shell line. */
  argv: string[];
  env: Record<string, string>;
  /** Absolute. */
  workdir: string;
  /** `user`, `uid`, `user:group` or `uid:gid`, as in the OCI image configuration's `User`; empty for root. */
  user: string;
}

/** What a build made, as the worker recorded it. */
export interface Image {
  /** `sha256:…` of the image configuration, the name the node's image store knows it by. */
  digest: string;
  /** Bytes of the unpacked layers. */
  bytes: number;
  process: Process;
  /** Guest TCP ports, in the formfile's order. */
  expose: number[];
  /** The resolved reference and digest of the base: what `from` meant at that moment. */
  base: { reference: string; digest: string };
  /** `sha256:…` of its archive among the artifacts, for other nodes; absent where nodes share none. */
  archive?: string;
}

export interface Build extends RecordBase {
  id: Id<"bld">;
  name: string;
  state: BuildState;
  formfile: Formfile;
  /** `sha256:…` of the context artifact (a tar), or null if the formfile includes nothing. */
  context_digest: string | null;
  image: Image | null;
  warnings: string[];
  metadata: Record<string, string>;
  error: ErrorRecord | null;
  /** The node whose image store holds it; null until built. */
  node_id: Id<"node"> | null;
  /** When a deployment last used it, or it was made. */
  used_at: number;
  operation_id: Id<"op">;
  started_at: number | null;
  ended_at: number | null;
}

/** What an instance was asked to be; kept so that it can be started again without its build. */
export interface InstanceConfig {
  resources: Resources;
  metadata: Record<string, string>;
  /** Guest port (as text) → the port on the node, where the owner fixed one. */
  host_ports: Record<string, number>;
  network: { join_formnet: boolean; external_networks: string[] };
  /** Labels that its node must have; absent for none. */
  labels?: Record<string, string>;
}

export interface Deployment extends RecordBase {
  id: Id<"dep">;
  build_id: Id<"bld">;
  instance_id: Id<"vm">;
  instance_name: string;
  state: DeploymentState;
  config: InstanceConfig;
  /** Whether it may take the place of what runs under that name. */
  replace: boolean;
  /** The machine that this deployment made, `<dep id>.<attempt>`; null before. */
  machine_id: string | null;
  error: ErrorRecord | null;
  operation_id: Id<"op">;
  ended_at: number | null;
}

/** A guest port and where it answers. */
export interface Endpoint {
  guest_port: number;
  /** The address on the node, `127.0.0.1` unless the operator says otherwise. */
  address: string;
  port: number;
  /** Whether the guest's init saw it listening. */
  listening: boolean;
}

/** What the node last saw of an instance's machine. */
export interface Observed {
  accelerator: "kvm" | "tcg" | null;
  endpoints: Endpoint[];
  /** What the guest can reach: `internet` only where the node can enforce it, and why if not. */
  egress: { mode: "internet" | "none"; reason: string };
  exit_code: number | null;
  started_at: number | null;
  /** Promises of the security model that are not kept for this machine, in words; absent if all are. */
  unenforced?: string[];
  /** What is wrong with a machine that is there all the same, in words: held because its disk is full, … */
  problem?: string;
  seen_at: number;
}

export interface Instance extends RecordBase {
  id: Id<"vm">;
  /** Unique per owner among instances that are not deleted. */
  name: string;
  desired: InstanceDesire;
  state: InstanceState;
  node_id: Id<"node"> | null;
  /** The deployment that is live (or stopped) on it, and the machine it runs as; null before the first. */
  deployment_id: Id<"dep"> | null;
  machine_id: string | null;
  build_id: Id<"bld">;
  config: InstanceConfig;
  warnings: string[];
  observed: Observed | null;
  error: ErrorRecord | null;
}

export interface NodeRecord {
  id: Id<"node">;
  version: number;
  created_at: number;
  updated_at: number;
  name: string;
  labels: Record<string, string>;
  capacity: Resources;
  engine: { builder: string; hypervisor: string; accelerator: "kvm" | "tcg"; profile: "root" | "user" };
  heartbeat_at: number;
  pid: number;
  /** The worker's program version: an older worker is asked to drain by a newer program. */
  program: string;
  /** The worker is leaving: it takes nothing more. Written by the worker. */
  draining: boolean;
  /** Takes nothing but what is pinned to it. Written by admins, as is `drain`. */
  cordoned: boolean;
  /** What is to become of its instances; null if it is not drained. */
  drain: Drain | null;
}

/** What an operation does, each with what it needs to know. */
export type OperationInput =
  | { kind: "build"; build_id: Id<"bld">; no_cache: boolean }
  | { kind: "ship"; deployment_id: Id<"dep">; instance_id: Id<"vm">; build_id: Id<"bld"> }
  | { kind: "control"; instance_id: Id<"vm">; action: ControlAction }
  | { kind: "delete"; instance_id: Id<"vm"> };

/** Where a running operation is. */
export interface Progress {
  /** `queued`, `pull`, `run 2/3`, `disk`, `boot`, … */
  step: string;
  /** One line for a person; never a line of the guest's or the build's. */
  message: string;
  /** 0 to 1, rising within an attempt; null if it can't be said. */
  fraction: number | null;
  at: number;
}

export interface Operation extends RecordBase {
  id: Id<"op">;
  tool: string;
  state: OperationState;
  /** Where its wake-up goes: `pack.build`, `pack.ship` or `vm.control.<node>`. */
  subject: string;
  input: OperationInput;
  /** The record it works on. */
  target_id: Id;
  /** The node that alone may take it, or null for any. */
  node_id: Id<"node"> | null;
  /** Labels that the node must have. */
  labels: Record<string, string>;
  /** What the node must have free, as the store computes it. A build's memory and vcpus are its limits while it runs. */
  needs: Resources;
  /** Rises with each claim: the fencing token. 0 before the first. */
  attempt: number;
  /** Rises with each wake-up sent; the message id is `<operation id>.<send>`. */
  send: number;
  sent_at: number;
  /** Who runs it, until when; null when nobody does. */
  claimed_by: Id<"node"> | null;
  lease_until: number | null;
  deadline_at: number;
  /** Not claimed before then: a retry waits. */
  run_at: number;
  cancel_requested_at: number | null;
  progress: Progress | null;
  error: ErrorRecord | null;
  started_at: number | null;
  ended_at: number | null;
  /** When the record is removed; null until it ended. */
  expires_at: number | null;
}
