// Submits operations as control does.

import {
  type ControlAction,
  controlSubject,
  type Id,
  LIMITS,
  newId,
  type Operation,
  SUBJECTS,
} from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";
import type { NewDeployment, Store, Submission } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";

const OWNER = "local:1000";

export function formfile(patch: Partial<Formfile> = {}): Formfile {
  return {
    from: "busybox",
    name: "hello",
    run: [],
    include: [],
    env: {},
    expose: [8080],
    entrypoint: ["/bin/server"],
    resources: { vcpus: 1, memory_mb: 128, disk_gb: 1 },
    network: { join_formnet: false, external_networks: [] },
    metadata: {},
    ...patch,
  };
}

export interface Requests {
  build(
    file?: Partial<Formfile>,
    context?: string,
    deadlineMs?: number,
    labels?: Record<string, string>,
  ): Promise<{ build: Id<"bld">; operation: Operation }>;
  /** Ships to a new name, or with `replace` to an existing instance. */
  ship(
    build: Id<"bld">,
    options?: {
      name?: string;
      replace?: Id<"vm">;
      file?: Formfile;
      config?: Partial<NewDeployment["config"]>;
      /** Allows another node than the one that has the instance. */
      anywhere?: boolean;
      node?: Id<"node">;
    },
  ): Promise<Shipped>;
  /** `vm_create`: a build and its shipment as one operation. */
  create(file?: Partial<Formfile>, name?: string): Promise<Shipped & { build: Id<"bld"> }>;
  control(instance: Id<"vm">, action: ControlAction): Promise<Operation>;
  remove(instance: Id<"vm">): Promise<Operation>;
}

interface Shipped {
  deployment: Id<"dep">;
  instance: Id<"vm">;
  operation: Operation;
}

const DESIRED = {
  start: "running",
  restart: "running",
  resume: "running",
  stop: "stopped",
  pause: "paused",
} as const;

export function requests(store: Store, queue: Queue | null, now: () => number = Date.now): Requests {
  const clock = { now };
  const submit = async (submission: Submission): Promise<Operation> => {
    const { operation } = await store.submit(submission);
    await queue?.publish(operation.subject, `${operation.id}.${operation.send}`, {
      v: 1,
      operation_id: operation.id,
    });
    return operation;
  };
  const operationOf = (
    id: Id<"op">,
    fields: Pick<Submission["operation"], "tool" | "subject" | "input" | "target_id"> &
      Partial<Submission["operation"]>,
  ) => ({
    id,
    owner: OWNER,
    node_id: null,
    deadline_at: now() + LIMITS.queuedMs,
    ...fields,
  });
  const newBuild = (id: Id<"bld">, operation: Id<"op">, file: Formfile, context: string | null) => ({
    id,
    owner: OWNER,
    name: file.name,
    state: "queued" as const,
    formfile: file,
    context_digest: context,
    image: null,
    warnings: [],
    metadata: {},
    error: null,
    node_id: null,
    used_at: now(),
    operation_id: operation,
    started_at: null,
    ended_at: null,
  });

  const shipment = async (
    buildId: Id<"bld">,
    file: Formfile,
    options: {
      name?: string;
      replace?: Id<"vm">;
      config?: Partial<NewDeployment["config"]>;
      anywhere?: boolean;
      node?: Id<"node">;
    },
    build?: ReturnType<typeof newBuild>,
    operationId = newId("op", clock),
  ): Promise<Shipped> => {
    const existing = options.replace ? await store.instance(OWNER, options.replace) : null;
    const instance = existing?.id ?? newId("vm", clock);
    const deployment = newId("dep", clock);
    const name = existing?.name ?? options.name ?? `vm-${instance.slice(-8)}`;
    const config = {
      resources: file.resources,
      metadata: {},
      host_ports: {},
      network: { ...file.network },
      ...options.config,
    };
    const pinned = options.node ?? (options.anywhere ? null : (existing?.node_id ?? null));
    const operation = await submit({
      operation: operationOf(operationId, {
        tool: build ? "vm_create" : "pack_ship",
        subject: pinned ? controlSubject(pinned) : SUBJECTS.ship,
        node_id: pinned,
        input: { kind: "ship", deployment_id: deployment, instance_id: instance, build_id: buildId },
        target_id: deployment,
      }),
      ...(build ? { build } : {}),
      deployment: {
        id: deployment,
        owner: OWNER,
        build_id: buildId,
        instance_id: instance,
        instance_name: name,
        state: "queued",
        config,
        replace: existing !== null,
        machine_id: null,
        error: null,
        operation_id: operationId,
        ended_at: null,
      },
      ...(existing
        ? {
            desire: {
              instance_id: existing.id,
              version: existing.version,
              desired: "running" as const,
            },
          }
        : {
            instance: {
              id: instance,
              owner: OWNER,
              name,
              desired: "running" as const,
              state: "creating" as const,
              node_id: null,
              deployment_id: null,
              machine_id: null,
              build_id: buildId,
              config,
              warnings: [],
              observed: null,
              error: null,
            },
          }),
    });
    return { deployment, instance, operation };
  };

  const onInstance = async (
    id: Id<"vm">,
    input: Submission["operation"]["input"],
    desired: "running" | "stopped" | "paused" | "deleted",
  ): Promise<Operation> => {
    const instance = await store.instance(OWNER, id);
    return submit({
      operation: operationOf(newId("op", clock), {
        tool: input.kind === "delete" ? "vm_delete" : "vm_control",
        subject: instance.node_id ? controlSubject(instance.node_id) : SUBJECTS.ship,
        node_id: instance.node_id,
        input,
        target_id: id,
      }),
      desire: { instance_id: id, version: instance.version, desired },
      ...(desired === "deleted" ? { cancelOthers: true } : {}),
    });
  };

  return {
    async build(patch = {}, context, deadlineMs, labels) {
      const id = newId("bld", clock);
      const operationId = newId("op", clock);
      const operation = await submit({
        operation: operationOf(operationId, {
          tool: "pack_build",
          subject: SUBJECTS.build,
          input: { kind: "build", build_id: id, no_cache: false },
          target_id: id,
          needs: { vcpus: 1, memory_mb: 256, disk_gb: 0 },
          ...(labels === undefined ? {} : { labels }),
          ...(deadlineMs === undefined ? {} : { deadline_at: now() + deadlineMs }),
        }),
        build: newBuild(id, operationId, formfile(patch), context ?? null),
      });
      return { build: id, operation };
    },
    async ship(build, options = {}) {
      const file = options.file ?? (await store.build(OWNER, build)).formfile;
      return shipment(build, file, options);
    },
    async create(patch = {}, name) {
      const file = formfile(patch);
      const build = newId("bld", clock);
      const operationId = newId("op", clock);
      const shipped = await shipment(
        build,
        file,
        name ? { name } : {},
        newBuild(build, operationId, file, null),
        operationId,
      );
      return { ...shipped, build };
    },
    control: (id, action) => onInstance(id, { kind: "control", instance_id: id, action }, DESIRED[action]),
    remove: (id) => onInstance(id, { kind: "delete", instance_id: id }, "deleted"),
  };
}
