// The rows of the authorization matrix: what a test needs to know to try each tool and each route. The lists
// and scopes come from the tables themselves; a tool or route without a row here fails the test.

import type { ToolName } from "@formation-mcp/tools";
import type { Structured } from "../server.ts";

/** The records of one owner: a running instance, its build, and the operations that made them. */
export interface Records {
  op: string;
  bld: string;
  vm: string;
  name: string;
  owner: string;
  key: string;
  token: string;
  /** The node of the instance. */
  node: string;
}

/**
 * What a call accesses: a record that it names, a list of records, or nothing existing because it makes
 * something. For another owner the record is not found and the list is empty; a bounded token may make
 * nothing outside its bounds. Or something of the operator, which only an admin may use.
 */
export type Reach = "record" | "list" | "new" | "operator";

export interface ToolRow {
  reach: Reach;
  /** An input that names these records. */
  input(records: Records): Structured;
}

export const TOOL_ROWS: Readonly<Record<ToolName, ToolRow>> = {
  pack_build: {
    reach: "new",
    input: () => ({ formfile: { from: "busybox", name: "stranger", entrypoint: ["true"] }, dry_run: true }),
  },
  pack_ship: {
    reach: "record",
    input: ({ bld }) => ({ build_id: bld, instance_name: "stranger", wait_seconds: 0 }),
  },
  build_list: { reach: "list", input: () => ({}) },
  build_get: { reach: "record", input: ({ bld }) => ({ build_id: bld }) },
  vm_create: {
    reach: "new",
    input: () => ({ image: "busybox", instance_name: "stranger", wait_seconds: 0 }),
  },
  vm_list: { reach: "list", input: () => ({}) },
  vm_status: { reach: "record", input: ({ vm }) => ({ instance: vm }) },
  vm_control: {
    reach: "record",
    input: ({ vm }) => ({ instance: vm, action: "stop", wait_seconds: 0 }),
  },
  vm_delete: {
    reach: "record",
    input: ({ vm, name }) => ({ instance: vm, confirm: name, wait_seconds: 0 }),
  },
  vm_logs: { reach: "record", input: ({ vm }) => ({ instance: vm }) },
  operation_get: { reach: "record", input: ({ op }) => ({ id: op, wait_seconds: 0 }) },
  operation_list: { reach: "list", input: () => ({}) },
  operation_cancel: { reach: "record", input: ({ op }) => ({ operation_id: op }) },
  node_list: { reach: "operator", input: () => ({}) },
};

/** The tool names and parameters of the ancestor; the server reports which tool each one is. */
export const ALIAS_ROWS: Readonly<Record<string, ToolRow>> = {
  form_pack_build: {
    reach: "new",
    input: () => ({
      formfile_content: '{"from":"busybox","name":"stranger","entrypoint":["true"]}',
      dry_run: true,
    }),
  },
  form_pack_ship: { reach: "record", input: ({ bld }) => ({ build_id: bld, instance_name: "stranger" }) },
  "vm.create": { reach: "new", input: () => ({ name: "stranger", image: "busybox" }) },
  "vm.status": { reach: "record", input: ({ vm }) => ({ id: vm }) },
  "vm.control": { reach: "record", input: ({ vm }) => ({ id: vm, operation: "stop" }) },
  "vm.delete": { reach: "record", input: ({ vm }) => ({ id: vm }) },
  "vm.list": { reach: "list", input: () => ({}) },
};

export interface RouteRow {
  /** The path with the ids of these records; default: the pattern unchanged. */
  path?(records: Records): string;
  body?: Structured | "bytes";
  /** The status for another account of the same scopes that names these records; default: 200. */
  stranger?: number;
}

const byId = (id: keyof Records, before: string, after = "") => ({
  path: (records: Records) => `${before}${encodeURIComponent(records[id])}${after}`,
});

/** Every route that requires a token, as `METHOD path`. */
export const ROUTE_ROWS: Readonly<Record<string, RouteRow>> = {
  "GET /api/auth/whoami": {},
  "GET /api/tools": {},
  "POST /api/tools/{name}": { path: () => "/api/tools/vm_list", body: {} },
  "GET /api/operations": {},
  "GET /api/operations/{id}": { ...byId("op", "/api/operations/"), stranger: 404 },
  "GET /api/operations/{id}/events": { ...byId("op", "/api/operations/", "/events"), stranger: 404 },
  "GET /api/instances/{id}/logs": { ...byId("vm", "/api/instances/", "/logs"), stranger: 404 },
  "GET /api/builds/{id}/logs": { ...byId("bld", "/api/builds/", "/logs"), stranger: 404 },
  "PUT /api/contexts": { body: "bytes", stranger: 400 },
  "GET /api/keys": {},
  "POST /api/keys": { body: { label: "no key" }, stranger: 400 },
  "DELETE /api/keys/{id}": { ...byId("key", "/api/keys/"), stranger: 404 },
  "DELETE /api/keys/{id}/tokens": { ...byId("key", "/api/keys/", "/tokens"), stranger: 404 },
  "GET /api/tokens": {},
  "POST /api/tokens": { body: { name: "" }, stranger: 400 },
  "POST /api/tokens/narrow": { body: { scopes: [] }, stranger: 400 },
  "DELETE /api/tokens": {},
  "DELETE /api/tokens/{id}": { ...byId("token", "/api/tokens/"), stranger: 404 },
  "GET /api/quota": {},
  "GET /api/accounts": {},
  "POST /api/accounts": { body: { id: "nobody", scopes: ["admin"] } },
  "GET /api/accounts/{id}": byId("owner", "/api/accounts/"),
  "PUT /api/accounts/{id}/scopes": {
    ...byId("owner", "/api/accounts/", "/scopes"),
    body: { scopes: ["admin"] },
  },
  "DELETE /api/accounts/{id}/tokens": byId("owner", "/api/accounts/", "/tokens"),
  "GET /api/quota/{id}": byId("owner", "/api/quota/"),
  "PUT /api/quota/{id}": { ...byId("owner", "/api/quota/"), body: { vcpus: 64 } },
  "DELETE /api/quota/{id}": byId("owner", "/api/quota/"),
  "GET /api/audit": {},
  "GET /api/nodes": {},
  "GET /api/nodes/{id}": byId("node", "/api/nodes/"),
  "POST /api/nodes/{id}/cordon": { ...byId("node", "/api/nodes/", "/cordon"), body: {} },
  "POST /api/nodes/{id}/uncordon": { ...byId("node", "/api/nodes/", "/uncordon"), body: {} },
  "POST /api/nodes/{id}/drain": { ...byId("node", "/api/nodes/", "/drain"), body: { instances: "stop" } },
  "DELETE /api/nodes/{id}": byId("node", "/api/nodes/"),
  "GET /api/dead-letters": {},
};

/** Every public route: a new one must be added here. */
export const PUBLIC_ROUTES: readonly string[] = [
  "GET /api/auth/challenge",
  "POST /api/auth/login",
  "POST /api/auth/bootstrap",
  "POST /api/auth/validate",
  "POST /api/auth/refresh",
  "POST /api/auth/revoke",
  "GET /api/openapi.json",
  "GET /api",
];
