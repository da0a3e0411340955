// The ancestor's tools: their names, their parameters, and the call that each becomes here. A parameter that
// has no equivalent is refused or becomes a warning; none is ignored silently.

import { FormationError } from "@formation-mcp/contract";
import { z } from "zod";

type Json = Record<string, unknown>;

/** The call that an alias becomes. */
export interface Translated {
  /** Our name of the tool. */
  tool: string;
  input: Json;
  /** What the caller asked for and does not get, one sentence each. */
  warnings: string[];
}

export interface Alias {
  readonly name: string;
  readonly tool: string;
  readonly description: string;
  readonly tags: readonly string[];
  /** The ancestor's parameters; unknown ones are refused. */
  readonly parameters: z.ZodObject;
  readonly returns: string;
  /** @throws FormationError `invalid` for parameters that have no equivalent here. */
  readonly translate: (parameters: Json) => Translated;
}

const name = z.string().min(1).max(80);
const seconds = z.number().min(0).optional();
const key = z.string().min(1).max(200).nullish();
const wait = z.number().min(0).max(45).optional().describe("Seconds to wait for the end; default 0");
/** Metadata with any scalar as value, as the ancestor took it. */
const metadata = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).nullish();
const instanceId = z.string().min(1).max(80).describe("ID or name of the VM");
/** One VM, under any of the names that the ancestor's clients used. */
const instance = {
  id: instanceId.optional(),
  name: instanceId.optional(),
  vm_id: instanceId.optional(),
  instance_id: instanceId.optional(),
};

const vmConfig = z.strictObject({
  vcpus: z.number().nullish(),
  memory_mb: z.number().nullish(),
  disk_gb: z.number().nullish(),
  network: z
    .strictObject({
      join_formnet: z.boolean().nullish(),
      external_networks: z.array(z.string()).nullish(),
      host_ports: z.record(z.string(), z.number()).nullish(),
    })
    .nullish(),
  metadata,
});

/** Makes an alias. Its translation gets the parameters as their schema returns them. */
function alias<P extends z.ZodObject>(
  spec: Omit<Alias, "parameters" | "translate"> & {
    parameters: P;
    translate: (given: z.output<P>, warnings: string[]) => Json;
  },
): Alias {
  const { tool, parameters, translate } = spec;
  return {
    ...spec,
    translate: (given) => {
      const warnings: string[] = [];
      // Null means absent: some of the old clients send every field that they know.
      const input = translate(parseParameters(spec.name, parameters, given), warnings);
      const present = Object.entries(input).filter(([, value]) => value !== undefined && value !== null);
      return { tool, input: Object.fromEntries(present), warnings };
    },
  };
}

function parseParameters<P extends z.ZodObject>(tool: string, schema: P, given: Json): z.output<P> {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.slice(0, 20).map(({ path, message }) => {
    return `${path.length === 0 ? "parameters" : path.map((part) => String(part).slice(0, 60)).join(".")}: ${message.slice(0, 300)}`;
  });
  const [first] = parsed.error.issues;
  throw new FormationError("invalid", problems.join("\n"), {
    field: first?.path.length ? first.path.map((part) => String(part).slice(0, 60)).join(".") : "parameters",
    remedy: `${tool} takes ${Object.keys(schema.shape).join(", ")}.`,
  });
}

function refuse(field: string, message: string, remedy: string): FormationError {
  return new FormationError("invalid", message, { field, remedy });
}

function theInstance(given: { [K in keyof typeof instance]?: string | undefined }): string {
  const names = new Set(
    [given.id, given.vm_id, given.instance_id, given.name].filter((one) => one !== undefined),
  );
  const [only] = names;
  if (only === undefined) throw refuse("id", "id is missing.", "Give the VM's id or name as id.");
  if (names.size > 1) throw refuse("id", "More than one VM is named.", "Give the VM's id or name as id.");
  return only;
}

function texts(given: z.output<typeof metadata>): Record<string, string> | undefined {
  if (!given) return undefined;
  return Object.fromEntries(Object.entries(given).map(([field, value]) => [field, String(value)]));
}

function withoutNulls(given: Json | null | undefined): Json | undefined {
  if (!given) return undefined;
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== null && value !== undefined),
  );
}

function configOf(given: z.output<typeof vmConfig> | null | undefined): Json | undefined {
  if (!given) return undefined;
  const { network, metadata: pairs, ...rest } = given;
  return withoutNulls({ ...rest, network: withoutNulls(network), metadata: texts(pairs) });
}

const NO_TIMEOUT =
  "timeout_seconds is not set per call: the server's own limits hold, and operation_cancel ends it earlier.";

const formPackBuild = alias({
  name: "form_pack_build",
  tool: "pack_build",
  description: "Builds a workload from a Formfile specification",
  tags: ["pack", "build", "workload"],
  returns: "Build ID and status for tracking the build process",
  parameters: z.strictObject({
    formfile_content: z.string().describe("Content of the Formfile in JSON or YAML format"),
    context_files: z
      .record(z.string(), z.union([z.string(), z.strictObject({ base64: z.string() })]))
      .nullish()
      .describe("Map of filename to file content for files to include in the build context"),
    context_id: z.string().min(1).max(80).nullish().describe("Instead: of PUT /api/contexts"),
    formfile_path: z.string().nullish().describe("Not taken: send formfile_content"),
    build_options: z
      .strictObject({ cache: z.boolean().nullish(), timeout_seconds: seconds.nullable() })
      .nullish()
      .describe("cache: whether to use caching during build"),
    dry_run: z.boolean().optional(),
    wait_seconds: wait,
    idempotency_key: key,
  }),
  translate(given, warnings) {
    if (given.formfile_path) {
      throw refuse(
        "formfile_path",
        "formfile_path names a file on the server's machine, which is not read.",
        "Send the file's text as formfile_content.",
      );
    }
    if (given.build_options?.timeout_seconds != null) warnings.push(NO_TIMEOUT);
    return {
      formfile: given.formfile_content,
      context_files: given.context_files,
      context_id: given.context_id,
      no_cache: given.build_options?.cache === false ? true : undefined,
      dry_run: given.dry_run,
      wait_seconds: given.wait_seconds ?? 0,
      idempotency_key: given.idempotency_key,
    };
  },
});

const formPackShip = alias({
  name: "form_pack_ship",
  tool: "pack_ship",
  description: "Deploys a built workload package to a Formation instance",
  tags: ["pack", "ship", "deploy", "workload"],
  returns: "Deployment ID and status for tracking the deployment process",
  parameters: z.strictObject({
    build_id: name.describe("ID of the built package to deploy"),
    instance_name: name.nullish().describe("Name for the instance running the workload"),
    vm_config: vmConfig.nullish().describe("Virtual machine configuration for the deployment"),
    target_node: z.string().nullish().describe("Node to run it on, by name or id"),
    deployment_options: z
      .strictObject({
        auto_restart: z.boolean().nullish(),
        replica_count: z.number().nullish(),
        timeout_seconds: seconds.nullable(),
      })
      .nullish(),
    replace: z.boolean().optional(),
    wait_seconds: wait,
    idempotency_key: key,
  }),
  translate(given, warnings) {
    const options = given.deployment_options ?? {};
    if (options.replica_count != null && options.replica_count !== 1) {
      throw refuse(
        "deployment_options.replica_count",
        "One call makes one VM.",
        "Call form_pack_ship once for each replica, each with its own instance_name.",
      );
    }
    if (options.auto_restart === true) {
      warnings.push(
        "auto_restart is not done: a VM whose program ends is failed until it is started again; vm_status says why.",
      );
    }
    if (options.timeout_seconds != null) warnings.push(NO_TIMEOUT);
    return {
      build_id: given.build_id,
      instance_name: given.instance_name,
      vm_config: configOf(given.vm_config),
      replace: given.replace,
      target_node: given.target_node || undefined,
      wait_seconds: given.wait_seconds ?? 0,
      idempotency_key: given.idempotency_key,
    };
  },
});

const vmCreate = alias({
  name: "vm.create",
  tool: "vm_create",
  description: "Create a new virtual machine",
  tags: ["vm", "compute"],
  returns: "The new VM's id and how to follow its start",
  parameters: z.strictObject({
    name: name.describe("Name of the VM"),
    vcpus: z.number().nullish().default(1).describe("Number of vCPUs"),
    memory_mb: z.number().nullish().default(1024).describe("Memory size in MB"),
    disk_gb: z.number().nullish().default(10).describe("Root disk size in GB"),
    image: z.string().min(1).max(255).nullish().default("ubuntu-22.04").describe("Base image to use"),
    join_formnet: z.boolean().nullish().describe("Whether to join the Formnet network"),
    metadata: metadata.describe("Additional metadata for the VM"),
    wait_seconds: wait,
    idempotency_key: key,
  }),
  translate(given, warnings) {
    const image = given.image ?? "ubuntu-22.04";
    const reference = image.replace(/^([a-z]+)-(\d[\w.]*)$/, "$1:$2");
    if (reference !== image) warnings.push(`image ${image} is taken as the OCI image ${reference}.`);
    return {
      instance_name: given.name,
      image: reference,
      vm_config: configOf({
        vcpus: given.vcpus ?? 1,
        memory_mb: given.memory_mb ?? 1024,
        disk_gb: given.disk_gb ?? 10,
        metadata: given.metadata,
        ...(given.join_formnet == null ? {} : { network: { join_formnet: given.join_formnet } }),
      }),
      wait_seconds: given.wait_seconds ?? 0,
      idempotency_key: given.idempotency_key,
    };
  },
});

const vmStatus = alias({
  name: "vm.status",
  tool: "vm_status",
  description: "Get status of a VM by ID or name",
  tags: ["vm", "status"],
  returns: "The VM as its node last saw it",
  parameters: z.strictObject(instance),
  translate: (given) => ({ instance: theInstance(given) }),
});

const vmControl = alias({
  name: "vm.control",
  tool: "vm_control",
  description: "Control VM lifecycle (start, stop, restart)",
  tags: ["vm", "control"],
  returns: "The VM's state and how to follow its change",
  parameters: z.strictObject({
    ...instance,
    operation: z.string().max(40).optional().describe("start, stop, restart, pause or resume"),
    action: z.string().max(40).optional().describe("The same as operation"),
    wait_seconds: wait,
    idempotency_key: key,
  }),
  translate(given) {
    const { operation, action } = given;
    if (operation !== undefined && action !== undefined && operation !== action) {
      throw refuse("operation", "operation and action differ.", "Give operation alone.");
    }
    const wanted = operation ?? action;
    if (wanted === undefined) {
      throw refuse("operation", "operation is missing.", "Use one of: start, stop, restart, pause, resume.");
    }
    return {
      instance: theInstance(given),
      action: wanted,
      wait_seconds: given.wait_seconds ?? 0,
      idempotency_key: given.idempotency_key,
    };
  },
});

const vmDelete = alias({
  name: "vm.delete",
  tool: "vm_delete",
  description: "Delete an existing VM by ID or name",
  tags: ["vm", "delete"],
  returns: "The VM's state and how to follow its removal",
  parameters: z.strictObject({
    ...instance,
    force: z.boolean().nullish().describe("Of no effect: a running VM is ended and deleted anyway"),
    wait_seconds: wait,
    idempotency_key: key,
  }),
  translate: (given) => ({
    instance: theInstance(given),
    wait_seconds: given.wait_seconds ?? 0,
    idempotency_key: given.idempotency_key,
  }),
});

const vmList = alias({
  name: "vm.list",
  tool: "vm_list",
  description: "List all VMs for the current user or all users if requested",
  tags: ["vm", "list"],
  returns: "The VMs, newest first",
  parameters: z.strictObject({
    all_users: z.boolean().nullish().describe("Whether to list VMs for all users (admin only)"),
    status: z.string().max(40).nullish().describe("Only VMs in this state"),
    limit: z.number().optional(),
    cursor: z.string().optional(),
  }),
  translate: (given) => ({
    state: given.status?.toLowerCase(),
    limit: given.limit ?? 50,
    cursor: given.cursor,
  }),
});

/** The ancestor's tools, in the ancestor's order. */
export const ALIASES: readonly Alias[] = [
  formPackBuild,
  formPackShip,
  vmStatus,
  vmControl,
  vmCreate,
  vmList,
  vmDelete,
];

const byName = new Map(ALIASES.map((one) => [one.name, one]));

export function findAlias(tool: string): Alias | undefined {
  return byName.get(tool);
}
