// What admins see of nodes and do with them. An admin's wish is written into the node's record; the node
// itself and the drainer carry it out.

import {
  type Drain,
  FormationError,
  type Id,
  idKind,
  isHeard,
  type NodeRecord,
  type Operation,
} from "@formation-mcp/contract";
import type { NodeUse, Store } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import type { ControlDeps, ToolHandler } from "../deps.ts";
import { page, pagesOf } from "../results/pages.ts";
import { iso } from "../results/views.ts";

/** A node as admins see it. */
export interface NodeView {
  node_id: string;
  name: string;
  /**
   * `silent`: no heartbeat for a while. `leaving`: its worker is ending. `draining`: a drain stops or moves
   * its instances; `drained`: the drain is finished. A drain that keeps the instances shows as `cordoned`
   * while there are any.
   */
  state: "ready" | "cordoned" | "draining" | "drained" | "leaving" | "silent";
  labels: Record<string, string>;
  capacity: Operation["needs"];
  /** What its machines use. */
  used: Operation["needs"];
  instances: number;
  drain: Drain | null;
  builder: string;
  hypervisor: string;
  accelerator: string;
  profile: string;
  program: string;
  heard_at: string;
}

/**
 * What admins do with nodes. A node is named by id or name: an unknown one is `not_found`, a name that
 * several nodes have is `conflict`.
 */
export interface Nodes {
  list(query: {
    limit: number;
    cursor?: string | undefined;
  }): Promise<{ items: NodeView[]; cursor: string | null }>;
  get(node: string): Promise<NodeView>;
  /** The node takes no more work, except what is pinned to it. */
  cordon(node: string): Promise<NodeView>;
  /** The node takes work again. Ends a drain. */
  uncordon(node: string): Promise<NodeView>;
  /**
   * The node takes no more work, and keeps, stops or moves its instances. A moved instance starts anew,
   * without its disk.
   */
  drain(node: string, how: Drain): Promise<NodeView>;
  /**
   * Removes the record of the node. With `force` the instances on it are given up.
   * @throws FormationError `conflict` while the node is in use, without `force`.
   */
  remove(node: string, options: { force: boolean }): Promise<{ instances: number; operations: number }>;
}

export interface NodesOptions {
  store: Store;
  queue: Queue;
  clock: ControlDeps["clock"];
}

/** The owner field of events about nodes: no account has this name. */
const NODE_EVENTS_OWNER = "nodes";
const NO_RESOURCES = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

export function createNodes({ store, queue, clock }: NodesOptions): Nodes {
  const find = async (wanted: string): Promise<NodeRecord> => {
    const [found, another] = (await store.nodes()).filter(({ id, name }) => id === wanted || name === wanted);
    if (found && !another) return found;
    if (found) {
      throw new FormationError("conflict", "Several nodes have this name.", {
        remedy: "Give the id of one.",
      });
    }
    const shown = idKind(wanted) === "node" ? wanted : JSON.stringify(wanted.slice(0, 80));
    throw new FormationError("not_found", `There is no node ${shown}.`, {
      remedy: "GET /api/nodes lists them.",
    });
  };
  const wakeNode = (node: Id<"node">, id: Id = node, owner = NODE_EVENTS_OWNER) =>
    queue.emit({ v: 1, id, owner, for: node }).catch(() => undefined);
  const view = async (node: NodeRecord) => viewOf(node, await usesOf(store), clock.now());
  const setScheduling = async (wanted: string, wish: Pick<NodeRecord, "cordoned" | "drain">) => {
    const node = await store.setNodeScheduling((await find(wanted)).id, wish);
    await wakeNode(node.id);
    return view(node);
  };
  return {
    list: (input) => listNodes(store, clock.now(), input),
    get: async (wanted) => view(await find(wanted)),
    cordon: async (wanted) => setScheduling(wanted, { cordoned: true, drain: (await find(wanted)).drain }),
    uncordon: (wanted) => setScheduling(wanted, { cordoned: false, drain: null }),
    drain: (wanted, how) => setScheduling(wanted, { cordoned: true, drain: how }),
    async remove(wanted, options) {
      const { id } = await find(wanted);
      const { instances, operations } = await store.removeNode(id, options);
      for (const record of [...instances, ...operations]) await wakeNode(id, record.id, record.owner);
      await wakeNode(id);
      return { instances: instances.length, operations: operations.length };
    },
  };
}

export const nodeList: ToolHandler<"node_list"> = async (deps, { principal, input }) => {
  if (principal.bounds) {
    throw new FormationError("forbidden", "A token with bounds can't see the nodes.", {
      remedy: "Use a token with the scope admin and without bounds.",
    });
  }
  const { items, cursor } = await listNodes(deps.store, deps.clock.now(), input);
  return { nodes: items.map((item) => ({ ...item })), cursor };
};

async function listNodes(store: Store, now: number, input: { limit: number; cursor?: string | undefined }) {
  const uses = await usesOf(store);
  return page({
    input,
    query: pagesOf(await store.nodes()),
    view: (node: NodeRecord) => viewOf(node, uses, now),
  });
}

async function usesOf(store: Store): Promise<Map<string, NodeUse>> {
  return new Map((await store.nodeUse()).map((use) => [use.node_id, use]));
}

function viewOf(node: NodeRecord, uses: ReadonlyMap<string, NodeUse>, now: number): NodeView {
  const {
    instances,
    node_id: _,
    ...used
  } = uses.get(node.id) ?? { ...NO_RESOURCES, node_id: node.id, instances: 0 };
  return {
    node_id: node.id,
    name: node.name,
    state: stateOf(node, used, instances, now),
    labels: node.labels,
    capacity: node.capacity,
    used,
    instances,
    drain: node.drain,
    ...node.engine,
    program: node.program,
    heard_at: iso(node.heartbeat_at),
  };
}

function stateOf(
  node: NodeRecord,
  used: Operation["needs"],
  instances: number,
  now: number,
): NodeView["state"] {
  if (!isHeard(node, now)) return "silent";
  if (node.draining) return "leaving";
  if (node.drain === null) return node.cordoned ? "cordoned" : "ready";
  const empty = node.drain === "stop" ? used.vcpus === 0 : instances === 0;
  if (empty) return "drained";
  return node.drain === "keep" ? "cordoned" : "draining";
}
