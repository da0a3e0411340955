// Where a build or a shipment may run: the wish of the caller, checked against the nodes that hold the image
// and the existing instance.

import type { Principal } from "@formation-mcp/auth";
import {
  type Build,
  checkLabels,
  controlSubject,
  FormationError,
  hasLabels,
  type Id,
  type Instance,
  isHeard,
  type NodeRecord,
  type Operation,
  RESTING_STATES,
  SUBJECTS,
} from "@formation-mcp/contract";
import type { NewBuild } from "@formation-mcp/operations";
import { ownerFilter } from "../access/ownership.ts";
import type { ControlDeps } from "../deps.ts";

export interface PlacementRequest {
  target_node?: string | undefined;
  labels?: Record<string, string> | undefined;
}

type Destination = Pick<Operation, "subject" | "node_id" | "labels">;

/**
 * Decides where a shipment may run. What is pinned to a node is sent to the subject of that node.
 * @throws FormationError `not_found` for an unknown node, `conflict` if the shipment can't run there.
 */
export async function placeShipment(
  deps: ControlDeps,
  principal: Principal,
  build: Build | NewBuild,
  existing: Instance | null,
  asked: PlacementRequest,
): Promise<Destination> {
  const labels = checkLabels(asked.labels ?? existing?.config.labels ?? {});
  // All nodes are read only if the caller names one. Most shipments may run anywhere; the others need only
  // the nodes of the image and the instance.
  if (asked.target_node === undefined && (existing?.machine_id ?? null) === null && isShared(deps, build)) {
    return { subject: SUBJECTS.ship, node_id: null, labels };
  }
  const nodes =
    asked.target_node === undefined
      ? await nodesById(deps, [existing?.node_id ?? null, build.node_id])
      : await deps.store.nodes();
  if (existing?.state === "lost") throw lostError(existing, nodes);
  const target =
    asked.target_node === undefined ? null : await findTarget(deps, principal, nodes, asked.target_node);
  const home = pinnedNode(deps, nodes, existing, target !== null || asked.labels !== undefined);
  const image = imageHome(deps, nodes, build);
  const pinned = target?.id ?? home ?? image;
  if (home !== null && home !== pinned) throw instanceElsewhere(existing as Instance, nodes, home);
  if (image !== null && image !== pinned) throw imageElsewhere(build, nodes, image);
  if (pinned === null) return { subject: SUBJECTS.ship, node_id: null, labels };
  const node = nodes.find(({ id }) => id === pinned);
  if (node) requireOpen(node, target !== null, asked.labels ?? {});
  return { subject: controlSubject(pinned), node_id: pinned, labels: {} };
}

async function nodesById({ store }: ControlDeps, ids: readonly (Id<"node"> | null)[]): Promise<NodeRecord[]> {
  const known = [...new Set(ids)].filter((id) => id !== null);
  return (await Promise.all(known.map((id) => store.node(id)))).filter((node) => node !== null);
}

/** Decides where a build may run. @throws FormationError `invalid` for a wrong label. */
export function placeBuild({ labels = {} }: Pick<PlacementRequest, "labels">): Destination {
  return { subject: SUBJECTS.build, node_id: null, labels: checkLabels(labels) };
}

/**
 * Finds the node of this id or name.
 * @throws FormationError `not_found`; its remedy names all nodes to an admin, and to others the nodes of
 *   their own instances.
 */
async function findTarget(
  deps: ControlDeps,
  principal: Principal,
  nodes: readonly NodeRecord[],
  wanted: string,
): Promise<NodeRecord> {
  const [found, another] = nodes.filter(({ id, name }) => id === wanted || name === wanted);
  if (found && !another) return found;
  const field = "target_node";
  if (found) {
    throw new FormationError("conflict", `Several nodes are named ${JSON.stringify(wanted)}.`, {
      field,
      remedy: "Give the id of one, or labels that it alone has.",
    });
  }
  const known = ownerFilter(principal) === null ? nodes : await nodesOfCaller(deps, principal, nodes);
  const names = [...new Set(known.map(({ name }) => name))].slice(0, 20);
  throw new FormationError("not_found", `There is no node ${JSON.stringify(wanted)} that you can name.`, {
    field,
    remedy: `${names.length > 0 ? `Use one of: ${names.join(", ")}; or leave` : "Leave"} target_node out: any node that fits takes it.`,
  });
}

/** The nodes of the caller's own instances. */
async function nodesOfCaller(
  { store }: ControlDeps,
  { owner, bounds }: Principal,
  nodes: readonly NodeRecord[],
): Promise<NodeRecord[]> {
  if (bounds) return [];
  const { items } = await store.instances({ owner, limit: 1000 });
  const used = new Set(items.map(({ node_id }) => node_id));
  return nodes.filter(({ id }) => used.has(id));
}

/**
 * The node that an instance can't leave, or null. A resting instance leaves its node if the caller asks for
 * it, or if the node is silent or gone and the artifacts are shared.
 */
function pinnedNode(
  { artifacts, clock }: ControlDeps,
  nodes: readonly NodeRecord[],
  existing: Instance | null,
  asked: boolean,
): Id<"node"> | null {
  if (!existing || existing.machine_id === null || existing.node_id === null) return null;
  const { node_id, state } = existing;
  if (!RESTING_STATES.includes(state)) return node_id;
  const node = nodes.find(({ id }) => id === node_id);
  const stays = node && (isHeard(node, clock.now()) || !artifacts.shared);
  return stays && !asked ? node_id : null;
}

/** Whether every node can get the image of a build. */
function isShared({ artifacts }: ControlDeps, { node_id, image }: Build | NewBuild): boolean {
  return node_id === null || (artifacts.shared && image?.archive !== undefined);
}

/** The only node that has the image of a build, or null if every node can get it. */
function imageHome(
  deps: ControlDeps,
  nodes: readonly NodeRecord[],
  build: Build | NewBuild,
): Id<"node"> | null {
  if (isShared(deps, build)) return null;
  if (nodes.some(({ id }) => id === build.node_id)) return build.node_id;
  throw new FormationError("conflict", `The image of ${build.id} went with the node that kept it.`, {
    field: "build_id",
    remedy: "Call pack_build again, then pack_ship with the new build_id.",
  });
}

/** The instance may still run on its silent node, so no second machine of it may start. */
function lostError({ name, node_id }: Instance, nodes: readonly NodeRecord[]): FormationError {
  const node = nodes.find(({ id }) => id === node_id)?.name ?? node_id;
  return new FormationError("conflict", `"${name}" is lost with its node ${node}: it may run there still.`, {
    field: "instance_name",
    remedy:
      "It comes back by itself when its node does. If that never will, an admin removes the node with force; then ship again. Or choose another instance_name.",
  });
}

function instanceElsewhere(
  { name, state }: Instance,
  nodes: readonly NodeRecord[],
  home: Id<"node">,
): FormationError {
  const node = nodes.find(({ id }) => id === home)?.name ?? home;
  return new FormationError("conflict", `The instance ${name} is ${state} on the node ${node}.`, {
    field: "target_node",
    remedy: `Call vm_control with instance ${name} and action stop, then again: it begins anew on the other node, its disk does not come along.`,
  });
}

function imageElsewhere(
  build: Build | NewBuild,
  nodes: readonly NodeRecord[],
  image: Id<"node">,
): FormationError {
  const node = nodes.find(({ id }) => id === image)?.name ?? image;
  return new FormationError("conflict", `The image of ${build.id} is on the node ${node} alone.`, {
    field: "target_node",
    remedy: "Leave target_node out, or build on the other node.",
  });
}

/** @throws FormationError `conflict` if the node takes no work or lacks some of the labels. */
function requireOpen(node: NodeRecord, named: boolean, labels: Record<string, string>): void {
  const field = named ? "target_node" : "instance_name";
  if (node.drain !== null || (named && node.cordoned)) {
    const what = node.drain === null ? "takes nothing new" : "is being emptied";
    throw new FormationError("conflict", `The node ${node.name} ${what}, by the operator's wish.`, {
      field,
      remedy: named ? "Name another node, or none." : "Use another instance_name: another node takes it.",
    });
  }
  if (hasLabels(node.labels, labels)) return;
  throw new FormationError("conflict", `The node ${node.name} lacks some of the labels.`, {
    field: "labels",
    remedy: named
      ? "Leave target_node or labels out."
      : "Stop what runs under this name first: then it may begin anew on another node.",
  });
}
