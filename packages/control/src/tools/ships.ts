// pack_ship and vm_create: a build becomes a deployment on an instance.

import type { Principal } from "@formation-mcp/auth";
import {
  type Build,
  type Deployment,
  FormationError,
  type Id,
  type Instance,
  LIMITS,
  newId,
  type Operation,
} from "@formation-mcp/contract";
import { parseFormfile } from "@formation-mcp/formfile";
import type { NewBuild, Submission } from "@formation-mcp/operations";
import { INSTANCE_NAME, type ToolInput, type ToolOutput } from "@formation-mcp/tools";
import {
  admits,
  findBuild,
  nameAndMetadata,
  ownerOfBuild,
  requireAllowedName,
  withTokenMetadata,
} from "../access/ownership.ts";
import type { ControlDeps, ToolHandler } from "../deps.ts";
import { placeShipment } from "../fleet/placement.ts";
import { afterBuild, afterShip } from "../results/next-steps.ts";
import { texts, urlsOf } from "../results/views.ts";
import { progressOf } from "../submit/progress.ts";
import { deadline, startOperation } from "../submit/submit.ts";
import { newBuild } from "./builds.ts";
import { throwFormfileIssues } from "./formfile-errors.ts";
import { instanceConfig, instanceWarnings } from "./vm-config.ts";

type ShipResult = ToolOutput<"pack_ship">;

export const packShip: ToolHandler<"pack_ship"> = async (deps, { principal, input, hooks }) => {
  const owner = await ownerOfBuild(deps, principal, input.build_id);
  const operation = await startOperation(
    deps,
    { principal, owner, tool: "pack_ship", input, hooks },
    async () => {
      const build = await findBuild(deps, principal, input.build_id);
      requireReady(build);
      return shipSubmission(deps, principal, build, input);
    },
  );
  return shipResult(deps, operation);
};

export const vmCreate: ToolHandler<"vm_create"> = async (deps, { principal, input, hooks }) => {
  const { owner } = principal;
  const operation = await startOperation(
    deps,
    { principal, owner, tool: "vm_create", input, hooks },
    async () => {
      const parsed = parseFormfile({
        from: input.image,
        name: input.instance_name,
        ...(input.entrypoint === undefined ? {} : { entrypoint: input.entrypoint }),
        ...(input.env === undefined ? {} : { env: input.env }),
        ...(input.expose === undefined ? {} : { expose: input.expose }),
      });
      if (!parsed.ok) throwFormfileIssues(parsed.issues, { from: "image", name: "instance_name" });
      const operationId = newId("op", deps.clock, deps.random);
      const build = newBuild(deps, {
        owner,
        operationId,
        formfile: parsed.formfile,
        metadata: withTokenMetadata(principal, parsed.formfile.metadata, "vm_config.metadata"),
        warnings: parsed.warnings,
      });
      const ship = await shipSubmission(deps, principal, build, { ...input, replace: false }, operationId);
      return { ...ship, build };
    },
  );
  return shipResult(deps, operation);
};

/** @throws FormationError `conflict` if the build is not ready; its remedy says what to do. */
function requireReady(build: Build): void {
  if (build.state === "ready" && build.image) return;
  throw new FormationError("conflict", `The build ${build.id} is ${build.state}, not ready.`, {
    field: "build_id",
    remedy:
      build.state === "queued" || build.state === "building"
        ? `Call operation_get with id ${build.operation_id} until done is true, then pack_ship again.`
        : `Call build_get with build_id ${build.id} to see why. ${afterBuild(build)}`,
  });
}

type ShipInput = Pick<
  ToolInput<"pack_ship">,
  "instance_name" | "vm_config" | "replace" | "target_node" | "labels"
>;

/** Builds the submission that ships a build to a new instance, or to the existing one of that name. */
async function shipSubmission(
  deps: ControlDeps,
  principal: Principal,
  build: Build | NewBuild,
  input: ShipInput,
  operationId: Id<"op"> = newId("op", deps.clock, deps.random),
): Promise<Submission> {
  const { owner } = build;
  const name = input.instance_name ?? build.name;
  requireInstanceName(name);
  requireAllowedName(principal, name, "instance_name");
  const metadata = withTokenMetadata(principal, input.vm_config?.metadata ?? {}, "vm_config.metadata");
  const existing = await deps.store.instanceByName(owner, name);
  if (existing) requireReplaceable(existing, principal, input.replace);
  const labels = input.labels ?? existing?.config.labels ?? {};
  const placed = await placeShipment(deps, principal, build, existing, input);
  const config = {
    ...instanceConfig(build, { ...input.vm_config, metadata }, existing),
    ...(Object.keys(labels).length > 0 ? { labels } : {}),
  };
  const instanceId = existing?.id ?? newId("vm", deps.clock, deps.random);
  const deployment = {
    id: newId("dep", deps.clock, deps.random),
    owner,
    build_id: build.id,
    instance_id: instanceId,
    instance_name: name,
    state: "queued",
    config,
    replace: input.replace,
    machine_id: null,
    error: null,
    operation_id: operationId,
    ended_at: null,
  } as const satisfies Submission["deployment"];
  const operation = {
    id: operationId,
    owner,
    tool: build.state === "ready" ? "pack_ship" : "vm_create",
    ...placed,
    input: { kind: "ship", deployment_id: deployment.id, instance_id: instanceId, build_id: build.id },
    target_id: instanceId,
    deadline_at: deadline(deps, LIMITS.bootMs + (build.state === "ready" ? 0 : LIMITS.buildMs)),
  } as const satisfies Submission["operation"];
  if (existing) {
    const desire = { instance_id: existing.id, version: existing.version, desired: "running" } as const;
    return { operation, deployment, desire };
  }
  const instance = {
    id: instanceId,
    owner,
    name,
    desired: "running",
    state: "creating",
    node_id: null,
    deployment_id: null,
    machine_id: null,
    build_id: build.id,
    config,
    warnings: instanceWarnings(build, config),
    observed: null,
    error: null,
  } as const satisfies Submission["instance"];
  return { operation, deployment, instance };
}

/** @throws FormationError `invalid` */
function requireInstanceName(name: string): void {
  if (INSTANCE_NAME.test(name)) return;
  throw new FormationError(
    "invalid",
    `instance_name: ${JSON.stringify(name.slice(0, 80))} can't name a VM.`,
    {
      field: "instance_name",
      remedy:
        "Give an instance_name of 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit.",
    },
  );
}

/** @throws FormationError `conflict` if the instance is out of bounds, being deleted, or not replaceable. */
function requireReplaceable(existing: Instance, principal: Principal, replace: boolean): void {
  if (!admits(principal.bounds, nameAndMetadata(existing))) {
    throw new FormationError("conflict", `The name ${existing.name} is not free.`, {
      field: "instance_name",
      remedy: "Choose another instance_name.",
    });
  }
  if (existing.desired === "deleted") {
    throw new FormationError("conflict", `The instance ${existing.name} is being deleted.`, {
      field: "instance_name",
      remedy: `Call operation_get with id ${existing.id} until done is true, or choose another instance_name.`,
    });
  }
  if (replace) return;
  throw new FormationError(
    "conflict",
    `There is already an instance named ${existing.name} (${existing.state}).`,
    {
      field: "instance_name",
      remedy:
        "Choose another instance_name, or, to swap what runs there, call pack_ship with this instance_name and replace: true.",
    },
  );
}

/** The result of a ship operation. */
async function shipResult(deps: ControlDeps, operation: Operation): Promise<ShipResult> {
  if (operation.input.kind !== "ship") throw new FormationError("internal", "The operation is no shipment.");
  const { deployment_id, instance_id } = operation.input;
  const [deployment, instance]: [Deployment, Instance] = await Promise.all([
    deps.store.deployment(operation.owner, deployment_id),
    deps.store.instance(operation.owner, instance_id),
  ]);
  const urls = urlsOf(instance, deps);
  const done = operation.state === "completed";
  return {
    operation_id: operation.id,
    build_id: deployment.build_id,
    deployment_id,
    instance_id,
    instance_name: deployment.instance_name,
    state: deployment.state,
    done,
    urls: done ? urls : [],
    warnings: texts(instance.warnings),
    ...(await progressOf(deps, operation)),
    next: afterShip(instance, deployment.state, urls, operation),
  };
}
