// Results as the ancestor's clients read them: the ancestor's fields and names of states, beside ours.

type Json = Record<string, unknown>;

/** The ancestor's names for the states of an operation are the same as ours. */
const OPERATION_STATES = new Set(["queued", "running", "completed", "failed", "cancelled"]);

const BUILD_STATES: Readonly<Record<string, string>> = {
  queued: "created",
  building: "building",
  ready: "succeeded",
  failed: "failed",
  cancelled: "failed",
};

const DEPLOYMENT_STATES: Readonly<Record<string, string>> = {
  creating: "deploying",
  starting: "deploying",
  running: "running",
  live: "running",
  failed: "failed",
  lost: "failed",
};

const INSTANCE_STATES: Readonly<Record<string, string>> = {
  creating: "Building",
  starting: "Created",
  running: "Started",
  stopping: "Stopped",
  stopped: "Stopped",
};

/** The result of one of our tools, with the fields that a caller by the alias expects. */
export function asAncestor(alias: string, result: Json, warnings: readonly string[]): Json {
  const all = [...texts(result["warnings"]), ...warnings];
  const withWarnings = all.length === 0 ? {} : { warnings: all };
  return { ...result, ...(shapes[alias]?.(result) ?? {}), ...withWarnings };
}

const shapes: Readonly<Record<string, (result: Json) => Json>> = {
  form_pack_build: ({ state }) => ({
    status: state === "building" ? "processing" : "accepted",
    message: "Build request accepted successfully",
  }),
  form_pack_ship: ({ state, deployment_id, instance_id }) => {
    const status = state === "deploying" ? "deploying" : "accepted";
    const message = "Deployment request queued successfully";
    return {
      status,
      message,
      deploy_id: deployment_id,
      details: { deploy_id: deployment_id, instance_id, status, message },
    };
  },
  "vm.create": ({ instance_id, instance_name, state }) => ({
    success: true,
    id: instance_id,
    name: instance_name,
    status: state,
    message: `VM ${String(instance_name)} creation has been queued`,
  }),
  "vm.control": changed,
  "vm.delete": changed,
  "vm.status": (result) => ({
    success: true,
    id: result["instance_id"],
    status: instanceState(result["state"]),
    created: result["created_at"],
    updated: result["observed_at"] ?? result["created_at"],
  }),
  "vm.list": ({ instances }) => {
    const vms = list(instances).map((vm) => ({
      ...vm,
      id: vm["instance_id"],
      status: instanceState(vm["state"]),
    }));
    return { success: true, count: vms.length, vms };
  },
};

function changed({ instance_id, instance_name, state }: Json): Json {
  return {
    success: true,
    id: instance_id,
    name: instance_name,
    status: state,
    message: `VM ${String(instance_name)}: the operation has been initiated`,
  };
}

function instanceState(state: unknown): unknown {
  return INSTANCE_STATES[String(state)] ?? state;
}

/** The result of `operation_get` as the ancestor's OperationStatus. */
export function asOperation(operation: Json, deploymentId?: string): Json {
  const status = OPERATION_STATES.has(String(operation["state"])) ? operation["state"] : "running";
  const progress = object(operation["progress"]);
  const error = object(operation["error"]);
  const { log, ...rest } = operation;
  return {
    ...rest,
    id: operation["operation_id"] ?? object(operation["record"])?.["id"] ?? null,
    status,
    progress: status === "completed" ? 1 : (progress?.["fraction"] ?? null),
    result: status === "completed" ? resultOf(operation, deploymentId) : null,
    error:
      status === "failed" || status === "cancelled" ? (error?.["message"] ?? `It ${String(status)}.`) : null,
    // Ours: the ancestor's `progress` and `error` have no room for them.
    step: progress ? { step: progress["step"], message: progress["message"] } : null,
    error_details: error ?? null,
    ...(log === undefined ? {} : { log }),
  };
}

/** One line of `operation_list`; what the list does not contain is null. */
export function asListedOperation(line: Json): Json {
  const { state, target_id } = line;
  const result = { ...idOf(target_id) };
  return {
    ...line,
    id: line["operation_id"],
    status: state,
    progress: state === "completed" ? 1 : null,
    result: state === "completed" ? result : null,
    error:
      state === "failed" || state === "cancelled"
        ? `It ${String(state)}: GET /api/operations/{id} tells why.`
        : null,
  };
}

function resultOf(operation: Json, deploymentId: string | undefined): Json {
  const record = object(operation["record"]);
  if (!record) return {};
  const { id, name, state } = record;
  if (String(id).startsWith("bld_")) {
    return { build_id: id, name, status: BUILD_STATES[String(state)] ?? state };
  }
  const urls = texts(operation["urls"]);
  const status = DEPLOYMENT_STATES[String(state)] ?? state;
  const deployment =
    deploymentId === undefined
      ? {}
      : {
          deployment_id: deploymentId,
          deploy_id: deploymentId,
          details: { deploy_id: deploymentId, instance_id: id, status },
        };
  return { instance_id: id, name, status, urls, endpoints: urls.map(endpointOf), ...deployment };
}

function endpointOf(url: string): Json {
  const { hostname, port } = new URL(url);
  return { protocol: "http", host: hostname, port: Number(port) };
}

function idOf(id: unknown): Json {
  return String(id).startsWith("bld_") ? { build_id: id } : { instance_id: id };
}

function object(value: unknown): Json | undefined {
  return typeof value === "object" && value !== null ? (value as Json) : undefined;
}

function list(value: unknown): Json[] {
  return Array.isArray(value) ? (value as Json[]) : [];
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}
