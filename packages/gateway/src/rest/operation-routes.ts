// Operations over REST, with the ancestor's field names and states.

import {
  FormationError,
  idKind,
  LIMITS,
  OPERATION_STATES,
  type OperationState,
} from "@formation-mcp/contract";
import { z } from "zod";
import { asListedOperation, asOperation } from "./alias-results.ts";
import { type Exchange, type Route, route } from "./route.ts";
import { ownRecordsOnly } from "./tool-routes.ts";

const operation = z.object({
  id: z.string(),
  status: z.enum(Object.keys(OPERATION_STATES) as [OperationState, ...OperationState[]]),
  progress: z.number().nullable().describe("0 to 1"),
  result: z.record(z.string(), z.unknown()).nullable(),
  error: z.string().nullable(),
});

export const OPERATION_ROUTES: readonly Route[] = [
  route({
    method: "GET",
    path: "/api/operations",
    access: "operation:read",
    tag: "operations",
    id: "listOperations",
    summary: "List operations, newest first",
    query: z.object({
      user_id: z.string().max(200).optional().describe("The account; another one's for admins alone"),
      state: z.enum(Object.keys(OPERATION_STATES) as [OperationState, ...OperationState[]]).optional(),
      target: z.string().max(80).optional().describe("Only about this bld_ or vm_ id"),
      limit: z.coerce.number().int().min(1).max(LIMITS.pageSize).default(LIMITS.pageSize),
      cursor: z.string().min(1).max(500).optional(),
    }),
    data: z.object({ operations: z.array(operation), cursor: z.string().nullable() }),
    errors: [400],
    async handle(exchange) {
      const { user_id: user, ...query } = exchange.query;
      const result = await exchange.tool("operation_list", withoutUndefined(query), {
        as: readerOf(exchange, user),
      });
      const operations = (result["operations"] as Record<string, unknown>[]).map(asListedOperation);
      return { data: { operations, cursor: result["cursor"] } };
    },
  }),
  route({
    method: "GET",
    path: "/api/operations/{id}",
    access: "operation:read",
    tag: "operations",
    id: "getOperationStatus",
    summary: "See how an operation goes",
    description: "Also takes the id of a build, a deployment or an instance.",
    query: z.object({
      wait_seconds: z.coerce.number().min(0).max(LIMITS.waitSeconds).default(0).describe("Wait for the end"),
    }),
    data: operation,
    errors: [400, 404],
    async handle(exchange) {
      const id = requireId(exchange.params["id"]);
      const { wait_seconds } = exchange.query;
      const operation = await exchange.tool("operation_get", { id, wait_seconds });
      return { data: asOperation(operation, await deploymentOf(exchange, operation)) };
    },
  }),
];

/**
 * Checks that an id has our form. Another one is `not_found`, because the ancestor's ids had another form.
 * @throws FormationError `not_found`
 */
export function requireId(id = ""): string {
  if (idKind(id) !== undefined) return id;
  throw new FormationError("not_found", `There is no operation ${JSON.stringify(id.slice(0, 60))}.`, {
    field: "id",
    remedy: "Give the operation_id that a tool returned.",
  });
}

/**
 * The principal whose operations a list shows.
 * @throws FormationError `forbidden` for another account's operations, unless the caller is an admin.
 */
function readerOf({ caller, note }: Exchange, user: string | undefined) {
  const { principal } = caller;
  const own = ownRecordsOnly(principal);
  if (user === undefined || user.toLowerCase() === principal.owner.toLowerCase()) return own;
  if (principal.scopes.has("admin") && principal.bounds === undefined) {
    note.target = user;
    return { ...own, owner: user };
  }
  throw new FormationError(
    "forbidden",
    "Only an admin without bounds sees the operations of another account.",
    {
      field: "user_id",
      remedy: "Leave user_id out to see your own.",
    },
  );
}

/**
 * The ancestor's clients read the deployment's id in the result of a ship; operation_get does not return it.
 */
async function deploymentOf(
  exchange: Exchange,
  { state, tool, record }: Record<string, unknown>,
): Promise<string | undefined> {
  if (state !== "completed" || (tool !== "pack_ship" && tool !== "vm_create")) return undefined;
  if (!exchange.deps.control.offers(exchange.caller.principal, "vm_status")) return undefined;
  try {
    const { id } = record as { id: string };
    const { deployment_id } = await exchange.tool("vm_status", { instance: id });
    return typeof deployment_id === "string" ? deployment_id : undefined;
  } catch {
    return undefined; // the instance may have been deleted since; the operation is completed all the same
  }
}

function withoutUndefined(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
