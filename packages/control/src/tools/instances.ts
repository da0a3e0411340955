// vm_list and vm_status: an instance as its node last reported it, with the age of the report.

import type { Principal } from "@formation-mcp/auth";
import { hasEnded, type Instance, isHeard, type NodeRecord } from "@formation-mcp/contract";
import type { ToolInput } from "@formation-mcp/tools";
import { admits, findInstance, nameAndMetadata, ownerField, ownerFilter } from "../access/ownership.ts";
import type { ControlDeps, ToolHandler } from "../deps.ts";
import { errorLog, errorView } from "../results/errors.ts";
import { aboutInstance } from "../results/next-steps.ts";
import { type Paging, page, pagesOf } from "../results/pages.ts";
import {
  endpointUrl,
  iso,
  isoOrNull,
  networkView,
  pairs,
  progressView,
  texts,
  urlsOf,
} from "../results/views.ts";
import { ensureWorker } from "../submit/wait.ts";

export const vmList: ToolHandler<"vm_list"> = async (deps, { principal, input }) => {
  const { items, cursor } = await page({
    input,
    ...(await instanceSource(deps, principal, input)),
    view: (instance: Instance) => ({
      instance_id: instance.id,
      name: instance.name,
      state: instance.state,
      desired: instance.desired,
      urls: urlsOf(instance, deps),
      metadata: pairs(instance.config.metadata, 300),
      ...ownerField(principal, instance),
    }),
  });
  return { instances: items, cursor };
};

type InstanceFilter = Pick<ToolInput<"vm_list">, "state" | "metadata">;

/**
 * The source of a list: the pages of the store or, if the bounds name the instances, one read for each name.
 */
async function instanceSource(
  deps: ControlDeps,
  principal: Principal,
  { state, metadata = {} }: InstanceFilter,
): Promise<Pick<Paging<Instance, unknown>, "query" | "sees">> {
  const { bounds } = principal;
  const wanted = { ...bounds, metadata: { ...metadata, ...bounds?.metadata } };
  // A metadata filter that contradicts the bounds matches nothing.
  const none = !admits({ metadata }, { name: "", metadata: wanted.metadata });
  if (none) return { query: pagesOf<Instance>([]) };
  if (bounds?.instances && state !== "deleted") {
    const found = await Promise.all(
      [...new Set(bounds.instances)].map((name) => deps.store.instanceByName(principal.owner, name)),
    );
    const fits = (one: Instance | null): one is Instance =>
      one !== null && admits(wanted, nameAndMetadata(one)) && (state === undefined || one.state === state);
    return { query: pagesOf(found.filter(fits)) };
  }
  return {
    query: (limit, cursor) =>
      deps.store.instances({
        owner: ownerFilter(principal),
        limit,
        cursor,
        ...(state ? { states: [state] } : {}),
        ...(Object.keys(wanted.metadata).length > 0 ? { metadata: wanted.metadata } : {}),
      }),
    sees: bounds?.instances && ((one) => admits(bounds, nameAndMetadata(one))),
  };
}

export const vmStatus: ToolHandler<"vm_status"> = async (deps, { principal, input }) => {
  const instance = await findInstance(deps, principal, input.instance);
  const [operation, build, node] = await Promise.all([
    deps.store.operationFor(instance.id),
    deps.store.build(instance.owner, instance.build_id).catch(() => null),
    instance.node_id === null ? null : deps.store.node(instance.node_id),
  ]);
  const { observed, config, error } = instance;
  const running = operation && !hasEnded(operation) ? operation : null;
  return {
    instance_id: instance.id,
    name: instance.name,
    state: instance.state,
    desired: instance.desired,
    urls: urlsOf(instance, deps),
    endpoints: (observed?.endpoints ?? []).map(({ guest_port, address, port, listening }) => ({
      guest_port,
      url: endpointUrl(address, port, deps),
      listening,
    })),
    egress: observed ? { mode: observed.egress.mode, reason: observed.egress.reason } : null,
    accelerator: observed?.accelerator ?? null,
    resources: { ...config.resources },
    network: networkView(config),
    metadata: pairs(config.metadata, 3000),
    warnings: [
      ...texts([...instance.warnings, ...observedWarnings(observed)], 2000),
      ...silentNodeWarnings(deps, instance, node),
    ],
    ...(error ? { error: errorView(error) } : {}),
    exit_code: observed?.exit_code ?? null,
    node: node?.name ?? null,
    build_id: instance.build_id,
    deployment_id: instance.deployment_id,
    image: build?.image?.digest ?? null,
    ...(running
      ? { operation: { operation_id: running.id, tool: running.tool, ...progressView(running.progress) } }
      : {}),
    ...ownerField(principal, instance),
    created_at: iso(instance.created_at),
    started_at: isoOrNull(observed?.started_at),
    observed_at: isoOrNull(observed?.seen_at),
    ...errorLog(error, `the VM ${instance.name}`, deps.random),
    next: aboutInstance(instance, operation),
  };
};

/** What its node reported that the owner should know: problems, and limits that could not be enforced. */
function observedWarnings(observed: Instance["observed"]): string[] {
  const missing = (observed?.unenforced ?? []).map((what) => `Not enforced for this VM: ${what}.`);
  return observed?.problem === undefined
    ? missing
    : [`Its machine has a problem: ${observed.problem}`, ...missing];
}

/** A warning if the node of an instance is silent: then the state shown may be out of date. */
function silentNodeWarnings(deps: ControlDeps, instance: Instance, node: NodeRecord | null): string[] {
  // A lost instance says so itself, and since when.
  if (instance.node_id === null || instance.state === "deleted" || instance.state === "lost") return [];
  const silent = node ? deps.clock.now() - node.heartbeat_at : null;
  if (node && isHeard(node, deps.clock.now())) return [];
  ensureWorker(deps);
  const since = silent === null ? "is unknown" : `has not been heard of for ${ageText(silent)}`;
  return [
    `Its node ${since}: the state shown here may be old. A worker is being started to bring it up to date: ask again.`,
  ];
}

function ageText(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 120) return `${Math.max(minutes, 1)} min`;
  return minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`;
}
