// Converts rows to records and back: JSON text, flags, and the columns that no record has. The records are
// written field by field, because lists are hot paths and a rest pattern or a spread costs several times as
// much.

import {
  type Build,
  type Deployment,
  FormationError,
  type Id,
  type Instance,
  type NodeRecord,
  type Operation,
  type OperationInput,
} from "@formation-mcp/contract";
import type {
  BuildPatch,
  DeploymentPatch,
  InstancePatch,
  NewBuild,
  NewDeployment,
  NewInstance,
} from "../port.ts";
import { readLabels } from "./labels.ts";
import type {
  BuildRow,
  DeploymentRow,
  InstanceRow,
  NodeRow,
  OperationRow,
  PlainInstanceRow,
} from "./schema.ts";

export function toOperation(row: OperationRow): Operation {
  return {
    id: row.id,
    owner: row.owner,
    version: row.version,
    created_at: row.created_at,
    updated_at: row.updated_at,
    tool: row.tool,
    state: row.state,
    subject: row.subject,
    input: JSON.parse(row.input) as OperationInput,
    target_id: row.target_id,
    node_id: row.node_id,
    labels: readLabels(row.labels),
    needs: { vcpus: row.vcpus, memory_mb: row.memory_mb, disk_gb: row.disk_gb },
    attempt: row.attempt,
    send: row.send,
    sent_at: row.sent_at,
    claimed_by: row.claimed_by,
    lease_until: row.lease_until,
    deadline_at: row.deadline_at,
    run_at: row.run_at,
    cancel_requested_at: row.cancel_requested_at,
    progress: fromJson(row.progress),
    error: fromJson(row.error),
    started_at: row.started_at,
    ended_at: row.ended_at,
    expires_at: row.expires_at,
  };
}

export function toBuild(row: BuildRow): Build {
  return {
    id: row.id,
    version: row.version,
    created_at: row.created_at,
    updated_at: row.updated_at,
    owner: row.owner,
    name: row.name,
    state: row.state,
    formfile: JSON.parse(row.formfile),
    context_digest: row.context_digest,
    image: fromJson(row.image),
    warnings: JSON.parse(row.warnings),
    metadata: JSON.parse(row.metadata),
    error: fromJson(row.error),
    node_id: row.node_id,
    used_at: row.used_at,
    operation_id: row.operation_id,
    started_at: row.started_at,
    ended_at: row.ended_at,
  };
}

export function toDeployment(row: DeploymentRow): Deployment {
  return {
    id: row.id,
    version: row.version,
    created_at: row.created_at,
    updated_at: row.updated_at,
    owner: row.owner,
    build_id: row.build_id,
    instance_id: row.instance_id,
    instance_name: row.instance_name,
    state: row.state,
    config: JSON.parse(row.config),
    replace: row.replace !== 0,
    machine_id: row.machine_id,
    error: fromJson(row.error),
    operation_id: row.operation_id,
    ended_at: row.ended_at,
  };
}

export function toInstance(row: PlainInstanceRow): Instance {
  return {
    id: row.id,
    version: row.version,
    created_at: row.created_at,
    updated_at: row.updated_at,
    owner: row.owner,
    name: row.name,
    desired: row.desired,
    state: row.state,
    node_id: row.node_id,
    deployment_id: row.deployment_id,
    machine_id: row.machine_id,
    build_id: row.build_id,
    config: JSON.parse(row.config),
    warnings: JSON.parse(row.warnings),
    observed: fromJson(row.observed),
    error: fromJson(row.error),
  };
}

/** The latest time that a date can have, in milliseconds since the epoch (ECMA-262, 21.4.1.1). */
const MAX_TIME = 8.64e15;
const MAX_NODE_TEXT = 200;

/**
 * A compromised worker may have written anything into a row of this table, under any id. Malformed values
 * become harmless defaults, so that the other nodes stay visible and this one can be removed.
 */
export function toNode({ removed_at: _, ...row }: NodeRow): NodeRecord {
  const [labels, capacity, engine] = [row.labels, row.capacity, row.engine].map(membersOf) as [
    Record<string, unknown>,
    Record<string, unknown>,
    Record<string, unknown>,
  ];
  const amount = (what: unknown) => (typeof what === "number" && what >= 0 ? what : 0);
  const word = (what: unknown) => (typeof what === "string" ? what.slice(0, MAX_NODE_TEXT) : "unknown");
  return {
    ...row,
    name: row.name.slice(0, MAX_NODE_TEXT),
    labels: Object.fromEntries(
      Object.entries(labels).filter(([, value]) => typeof value === "string"),
    ) as Record<string, string>,
    capacity: {
      vcpus: amount(capacity["vcpus"]),
      memory_mb: amount(capacity["memory_mb"]),
      disk_gb: amount(capacity["disk_gb"]),
    },
    engine: {
      builder: word(engine["builder"]),
      hypervisor: word(engine["hypervisor"]),
      accelerator: engine["accelerator"] === "kvm" ? "kvm" : "tcg",
      profile: engine["profile"] === "root" ? "root" : "user",
    },
    heartbeat_at: Math.min(row.heartbeat_at, MAX_TIME),
    draining: row.draining !== 0,
    cordoned: row.cordoned !== 0,
  };
}

function membersOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

export function fromBuild(build: NewBuild, now: number): Omit<BuildRow, "seq"> {
  return {
    id: build.id,
    owner: build.owner,
    name: build.name,
    state: build.state,
    formfile: JSON.stringify(build.formfile),
    context_digest: build.context_digest,
    image: toJson(build.image),
    archive: build.image?.archive ?? null,
    warnings: JSON.stringify(build.warnings),
    metadata: JSON.stringify(build.metadata),
    error: toJson(build.error),
    node_id: build.node_id,
    used_at: build.used_at,
    operation_id: build.operation_id,
    started_at: build.started_at,
    ended_at: build.ended_at,
    ...fresh(now),
  };
}

export function fromDeployment(deployment: NewDeployment, now: number): Omit<DeploymentRow, "seq"> {
  return {
    id: deployment.id,
    owner: deployment.owner,
    build_id: deployment.build_id,
    instance_id: deployment.instance_id,
    instance_name: deployment.instance_name,
    state: deployment.state,
    config: JSON.stringify(deployment.config),
    replace: deployment.replace ? 1 : 0,
    machine_id: deployment.machine_id,
    error: toJson(deployment.error),
    operation_id: deployment.operation_id,
    ended_at: deployment.ended_at,
    ...fresh(now),
  };
}

export function fromInstance(
  instance: NewInstance,
  now: number,
): Omit<InstanceRow, "seq" | keyof Instance["config"]["resources"]> {
  return {
    id: instance.id,
    owner: instance.owner,
    name: instance.name,
    desired: instance.desired,
    state: instance.state,
    node_id: instance.node_id,
    deployment_id: instance.deployment_id,
    machine_id: instance.machine_id,
    build_id: instance.build_id,
    config: JSON.stringify(instance.config),
    warnings: JSON.stringify(instance.warnings),
    observed: toJson(instance.observed),
    error: toJson(instance.error),
    ...fresh(now),
  };
}

const JSON_COLUMNS = new Set(["image", "error", "warnings", "config", "observed"]);

/** The columns that a patch changes. A value of undefined changes nothing. */
export function fromPatch(
  patch: BuildPatch | DeploymentPatch | InstancePatch,
): Record<string, string | number | null> {
  const columns: Record<string, string | number | null> = {};
  for (const [name, value] of Object.entries(patch)) {
    if (value !== undefined) columns[name] = JSON_COLUMNS.has(name) ? toJson(value) : value;
  }
  if ("image" in patch && patch.image !== undefined) columns["archive"] = patch.image?.archive ?? null;
  return columns;
}

/** Operations with the same key run one after the other: the id of the instance, or of the build. */
export function serialKey(input: OperationInput): Id<"vm"> | Id<"bld"> {
  return input.kind === "build" ? input.build_id : input.instance_id;
}

export function toJson(value: unknown): string | null {
  return value === null || value === undefined ? null : JSON.stringify(value);
}

function fromJson<T>(text: string | null): T | null {
  return text === null ? null : (JSON.parse(text) as T);
}

function fresh(now: number): { version: number; created_at: number; updated_at: number } {
  return { version: 1, created_at: now, updated_at: now };
}

export function notFound(what: string, id: string): FormationError {
  return new FormationError("not_found", `There is no ${what} ${id.slice(0, 100)}.`, {
    remedy: `List what there is. An operation is forgotten some time after it ended; builds and instances stay longer.`,
  });
}
