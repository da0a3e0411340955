// Routes for admins: the nodes, which build images and run instances.

import { DRAINS, LIMITS } from "@formation-mcp/contract";
import { z } from "zod";
import { type Route, route } from "./route.ts";

const amounts = z.object({ vcpus: z.number(), memory_mb: z.number(), disk_gb: z.number() });
const node = z.object({
  node_id: z.string(),
  name: z.string(),
  state: z.enum(["ready", "cordoned", "draining", "drained", "leaving", "silent"]),
  labels: z.record(z.string(), z.string()),
  capacity: amounts,
  used: amounts.describe("What its machines take"),
  instances: z.number(),
  drain: z.enum(DRAINS).nullable(),
  builder: z.string(),
  hypervisor: z.string(),
  accelerator: z.string(),
  profile: z.string(),
  program: z.string(),
  heard_at: z.string(),
});
const nothing = z.strictObject({});
const MOVES = "Disks do not travel: what is moved begins anew.";
const STAYS = 'Its instances stay there. {"instances": "move"} ships them to other nodes, "stop" stops them.';
const admin = { access: "admin", tag: "admin" } as const;

export const NODE_ROUTES: readonly Route[] = [
  route({
    ...admin,
    method: "GET",
    path: "/api/nodes",
    id: "listNodes",
    summary: "List the nodes",
    query: z.object({
      limit: z.coerce.number().int().min(1).max(LIMITS.pageSize).default(LIMITS.pageSize),
      cursor: z.string().min(1).max(500).optional(),
    }),
    data: z.object({ nodes: z.array(node), cursor: z.string().nullable() }),
    errors: [400],
    async handle({ deps, query }) {
      const { items, cursor } = await deps.nodes.list(query);
      return { data: { nodes: items, cursor } };
    },
  }),
  route({
    ...admin,
    method: "GET",
    path: "/api/nodes/{id}",
    id: "getNode",
    summary: "Look at a node",
    description: "Nodes are named by id or, where it is the only one of that name, by name.",
    data: node,
    errors: [404, 409],
    handle: async ({ deps, params }) => ({ data: await deps.nodes.get(params["id"] ?? "") }),
  }),
  route({
    ...admin,
    method: "POST",
    path: "/api/nodes/{id}/cordon",
    id: "cordonNode",
    summary: "Give a node nothing new",
    body: nothing,
    data: node,
    errors: [400, 404, 409],
    handle: async ({ deps, params }) => ({ data: await deps.nodes.cordon(params["id"] ?? "") }),
  }),
  route({
    ...admin,
    method: "POST",
    path: "/api/nodes/{id}/uncordon",
    id: "uncordonNode",
    summary: "Give a node work again",
    body: nothing,
    data: node,
    errors: [400, 404, 409],
    handle: async ({ deps, params }) => ({ data: await deps.nodes.uncordon(params["id"] ?? "") }),
  }),
  route({
    ...admin,
    method: "POST",
    path: "/api/nodes/{id}/drain",
    id: "drainNode",
    summary: "Give a node nothing new; with `move` or `stop`, empty it",
    description:
      "`keep`, the default, leaves its instances running, so that the node is `drained` only once they are gone; `stop` stops them, `move` stops each that runs and ships its build again, so that another node runs it: it begins anew from its image, and what is on its disk does not come along.",
    body: z.strictObject({ instances: z.enum(DRAINS).default("keep") }),
    data: node,
    errors: [400, 404, 409],
    async handle({ deps, params, body }) {
      const data = await deps.nodes.drain(params["id"] ?? "", body.instances);
      const stays = body.instances === "keep" && data.instances > 0;
      return { data, message: stays ? STAYS : body.instances === "move" ? MOVES : null };
    },
  }),
  route({
    ...admin,
    method: "DELETE",
    path: "/api/nodes/{id}",
    id: "removeNode",
    summary: "Forget a node",
    description:
      "Refused while anything is on it. With `force=true` that is given up: its instances are failed and their disks lost, what it ran is tried elsewhere. A node whose worker still runs comes back, empty.",
    query: z.object({ force: z.enum(["true", "false"]).default("false") }),
    data: z.object({ removed: z.literal(true), instances: z.number(), operations: z.number() }),
    errors: [400, 404, 409],
    handle: async ({ deps, params, query }) => ({
      data: {
        removed: true,
        ...(await deps.nodes.remove(params["id"] ?? "", { force: query.force === "true" })),
      },
    }),
  }),
];
