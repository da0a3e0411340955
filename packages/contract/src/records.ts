// The records of the system, as stores keep them and processes exchange them. Times are in milliseconds since
// the epoch.

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

/** What every record has. `version` rises with each change; writers compare and set it. */
interface RecordBase {
  owner: string;
  version: number;
  created_at: number;
  updated_at: number;
}

/** How the workload is started inside the machine: from the base image's configuration and the formfile. */
export interface Process {
  /** The program, absolute or found in PATH, and its arguments. Never run by a shell. */
  argv: string[];
  env: Record<string, string>;
  /** Absolute. */
  workdir: string;
  /** `user`, `uid`, `user:group` or `uid:gid`, as in the OCI image configuration's `User`; empty for root. */
  user: string;
}

/** What a build made, as the worker recorded it. */
export interface Image {
  /** `sha256:…` of the image configuration: the image's name in the node's image store. */
  digest: string;
  /** Size of the unpacked layers, in bytes. */
  bytes: number;
  process: Process;
  /** Guest TCP ports, in the formfile's order. */
  expose: number[];
  /** The reference and digest that `from` resolved to when the image was built. */
  base: { reference: string; digest: string };
  /** `sha256:…` of its archive in the artifacts, for other nodes; absent if nodes share no artifacts. */
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
  /** The node whose image store has the image; null until it is built. */
  node_id: Id<"node"> | null;
  /** When a deployment last used it, else when it was made. */
  used_at: number;
  operation_id: Id<"op">;
  started_at: number | null;
  ended_at: number | null;
}

/** What was asked for an instance. It is kept so that the instance can be started again without its build. */
export interface InstanceConfig {
  resources: Resources;
  metadata: Record<string, string>;
  /** Ports that the owner fixed: guest port (as text) → port on the node. */
  host_ports: Record<string, number>;
  network: { join_formnet: boolean; external_networks: string[] };
  /** Labels that its node must have; absent if none. */
  labels?: Record<string, string>;
}

export interface Deployment extends RecordBase {
  id: Id<"dep">;
  build_id: Id<"bld">;
  instance_id: Id<"vm">;
  instance_name: string;
  state: DeploymentState;
  config: InstanceConfig;
  /** Whether it may replace what runs under that name. */
  replace: boolean;
  /** The machine of this deployment, `<dep id>.<attempt>`; null before there is one. */
  machine_id: string | null;
  error: ErrorRecord | null;
  operation_id: Id<"op">;
  ended_at: number | null;
}

/** A guest port and its address on the node. */
export interface Endpoint {
  guest_port: number;
  /** The address on the node, `127.0.0.1` unless the operator says otherwise. */
  address: string;
  port: number;
  /** Whether the guest's init reported that a process listens on it. */
  listening: boolean;
}

/** What the node last saw of an instance's machine. */
export interface Observed {
  accelerator: "kvm" | "tcg" | null;
  endpoints: Endpoint[];
  /** What the guest can reach. `internet` only where the node can filter it; `reason` says why. */
  egress: { mode: "internet" | "none"; reason: string };
  exit_code: number | null;
  started_at: number | null;
  /** Rules of the security model that are not enforced for this machine, in words; absent if all are. */
  unenforced?: string[];
  /** What is wrong with a machine that exists, in words: it is held because its disk is full, … */
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
  /** The deployment that is live (or stopped) on it, and its machine; null before the first. */
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
  /** The version of the worker's program. A newer program asks an older worker to drain. */
  program: string;
  /** The worker is leaving and claims nothing more. Written by the worker. */
  draining: boolean;
  /** The node claims only what is pinned to it. Written by admins, as is `drain`. */
  cordoned: boolean;
  /** What a drain does with its instances; null if it is not drained. */
  drain: Drain | null;
}

/** What an operation does, with its arguments. */
export type OperationInput =
  | { kind: "build"; build_id: Id<"bld">; no_cache: boolean }
  | { kind: "ship"; deployment_id: Id<"dep">; instance_id: Id<"vm">; build_id: Id<"bld"> }
  | { kind: "control"; instance_id: Id<"vm">; action: ControlAction }
  | { kind: "delete"; instance_id: Id<"vm"> };

/** How far a running operation is. */
export interface Progress {
  /** `queued`, `pull`, `run 2/3`, `disk`, `boot`, … */
  step: string;
  /** One line for people; never text from the guest or the build. */
  message: string;
  /** 0 to 1, rising within an attempt; null if unknown. */
  fraction: number | null;
  at: number;
}

export interface Operation extends RecordBase {
  id: Id<"op">;
  tool: string;
  state: OperationState;
  /** The subject of its wake-ups: `pack.build`, `pack.ship` or `vm.control.<node>`. */
  subject: string;
  input: OperationInput;
  /** The record that it works on. */
  target_id: Id;
  /** The only node that may claim it; null for any. */
  node_id: Id<"node"> | null;
  /** Labels that the node must have. */
  labels: Record<string, string>;
  /** What the node must have free, computed by the store. A build's vCPUs and memory are also its limits. */
  needs: Resources;
  /** Rises with each claim: the fencing token. 0 before the first claim. */
  attempt: number;
  /** Rises with each wake-up sent; the message id is `<operation id>.<send>`. */
  send: number;
  sent_at: number;
  /** The node that runs it, and until when; null while no node does. */
  claimed_by: Id<"node"> | null;
  lease_until: number | null;
  deadline_at: number;
  /** It is not claimed before then: the back-off of a retry. */
  run_at: number;
  cancel_requested_at: number | null;
  progress: Progress | null;
  error: ErrorRecord | null;
  started_at: number | null;
  ended_at: number | null;
  /** When the record may be removed; null until it ended. */
  expires_at: number | null;
}
