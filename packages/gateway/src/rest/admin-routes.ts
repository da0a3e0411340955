// Routes for admins: accounts, quotas, the audit log. An owner can read its own quota.

import { SCOPES } from "@formation-mcp/auth";
import { ERROR_CODES, LIMITS, type Quota } from "@formation-mcp/contract";
import { z } from "zod";
import { account, accountView, iso, keyOf, newKey, noSuch, scope } from "./account-views.ts";
import { type Exchange, type Route, route } from "./route.ts";

const scopes = z.array(scope).max(SCOPES.length);
const cursor = z.string().min(1).max(500).optional();
const amount = z.int().min(0).nullable().describe("null: no limit");
const quota = {
  vcpus: amount,
  memory_mb: amount,
  disk_gb: amount,
  instances: amount,
  builds: amount.describe("Queued or running at the same time; null: no limit"),
  operations_per_minute: amount,
} satisfies Record<keyof Quota, z.ZodType>;
const count = z.number();
const quotaView = z.object({
  user_id: z.string(),
  limits: z.object(quota),
  usage: z.object({ vcpus: count, memory_mb: count, disk_gb: count, instances: count, builds: count }),
});

async function quotaOf({ deps }: Pick<Exchange, "deps">, owner: string): Promise<z.output<typeof quotaView>> {
  const [limits, usage] = await Promise.all([deps.quotas.of(owner), deps.usage(owner)]);
  return { user_id: owner, limits, usage };
}

/** @throws FormationError `not_found` */
async function requireAccount({ deps }: Pick<Exchange, "deps">, owner: string) {
  const found = await deps.authority.account(owner);
  if (found === null) throw noSuch("account");
  return found;
}

const time = z
  .union([z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)), z.coerce.number().int()])
  .optional()
  .describe("ISO 8601, or milliseconds since the epoch");

export const ADMIN_ROUTES: readonly Route[] = [
  route({
    method: "GET",
    path: "/api/accounts",
    access: "admin",
    tag: "admin",
    id: "listAccounts",
    summary: "List accounts",
    query: z.object({
      limit: z.coerce.number().int().min(1).max(LIMITS.pageSize).default(LIMITS.pageSize),
      cursor,
    }),
    data: z.object({ accounts: z.array(account), cursor: z.string().nullable() }),
    errors: [400],
    async handle({ deps, query }) {
      const page = await deps.authority.accounts({ limit: query.limit, cursor: query.cursor ?? null });
      return { data: { accounts: page.items.map(accountView), cursor: page.cursor } };
    },
  }),
  route({
    method: "POST",
    path: "/api/accounts",
    access: "admin",
    tag: "admin",
    id: "admitAccount",
    summary: "Open an account for a key",
    body: newKey.extend({ scopes: scopes.min(1) }),
    data: account,
    errors: [400, 409],
    async handle({ deps, body, note }) {
      const { scopes: list, ...given } = body;
      const wanted = keyOf(given);
      if (wanted.id !== undefined) note.target = wanted.id;
      return { data: accountView(await deps.authority.admit(wanted, new Set(list))) };
    },
  }),
  route({
    method: "GET",
    path: "/api/accounts/{id}",
    access: "admin",
    tag: "admin",
    id: "getAccount",
    summary: "Look at an account",
    data: account,
    errors: [404],
    async handle(exchange) {
      const { id = "" } = exchange.params;
      return { data: accountView(await requireAccount(exchange, id)) };
    },
  }),
  route({
    method: "PUT",
    path: "/api/accounts/{id}/scopes",
    access: "admin",
    tag: "admin",
    id: "setAccountScopes",
    summary: "Set what an account may do",
    description: "Tokens lose within five seconds what the account loses; what it gains, new ones have.",
    body: z.strictObject({ scopes }),
    data: account,
    errors: [400, 404, 409],
    async handle(exchange) {
      const { id = "" } = exchange.params;
      await requireAccount(exchange, id);
      const changed = await exchange.deps.authority.setScopes(id, new Set(exchange.body.scopes));
      return { data: accountView(changed) };
    },
  }),
  route({
    method: "DELETE",
    path: "/api/accounts/{id}/tokens",
    access: "admin",
    tag: "admin",
    id: "revokeAccountTokens",
    summary: "End every token of an account",
    data: z.object({ revoked: z.literal(true) }),
    errors: [404],
    async handle(exchange) {
      const { id = "" } = exchange.params;
      await requireAccount(exchange, id);
      await exchange.deps.authority.revokeOwner(id);
      return { data: { revoked: true } };
    },
  }),
  route({
    method: "GET",
    path: "/api/quota",
    access: "any",
    tag: "admin",
    id: "getQuota",
    summary: "See what the account may have and what it has",
    data: quotaView,
    async handle(exchange) {
      return { data: await quotaOf(exchange, exchange.caller.principal.owner) };
    },
  }),
  route({
    method: "GET",
    path: "/api/quota/{id}",
    access: "admin",
    tag: "admin",
    id: "getAccountQuota",
    summary: "See an account's quota",
    data: quotaView,
    async handle(exchange) {
      const { id = "" } = exchange.params;
      return { data: await quotaOf(exchange, id) };
    },
  }),
  route({
    method: "PUT",
    path: "/api/quota/{id}",
    access: "admin",
    tag: "admin",
    id: "setAccountQuota",
    summary: "Set an account's quota",
    description: "Fields that are left out stay as they are.",
    body: z.strictObject(quota).partial(),
    data: quotaView,
    errors: [400],
    async handle(exchange) {
      const { id = "" } = exchange.params;
      const given = Object.entries(exchange.body).filter(([, value]) => value !== undefined);
      await exchange.deps.quotas.set(id, Object.fromEntries(given) as Partial<Quota>);
      return { data: await quotaOf(exchange, id) };
    },
  }),
  route({
    method: "DELETE",
    path: "/api/quota/{id}",
    access: "admin",
    tag: "admin",
    id: "resetAccountQuota",
    summary: "Give an account the server's own quota back",
    data: quotaView,
    async handle(exchange) {
      const { id = "" } = exchange.params;
      await exchange.deps.quotas.set(id, null);
      return { data: await quotaOf(exchange, id) };
    },
  }),
  route({
    method: "GET",
    path: "/api/audit",
    access: "admin",
    tag: "admin",
    id: "readAuditLog",
    summary: "Read the audit log, newest first",
    query: z.object({
      user_id: z.string().max(200).optional(),
      action: z
        .string()
        .max(200)
        .optional()
        .describe("A tool's name, or a route as `GET /api/operations/{id}`"),
      outcome: z.enum(["begun", "ok", ...ERROR_CODES]).optional(),
      since: time,
      until: time,
      chain: z.string().max(200).optional(),
      limit: z.coerce.number().int().min(1).max(500).default(100),
      cursor,
    }),
    data: z.object({
      lines: z.array(
        z.object({
          chain: z.string(),
          seq: z.int(),
          hash: z.string(),
          at: z.string(),
          owner: z.string().nullable(),
          credential: z.string().nullable(),
          action: z.string(),
          target: z.string().nullable(),
          outcome: z.string(),
          address: z.string().nullable(),
          trace_id: z.string().nullable(),
        }),
      ),
      cursor: z.string().nullable(),
    }),
    errors: [400],
    async handle({ deps, query: { user_id, limit, cursor: from, ...rest } }) {
      const conditions = Object.entries({ ...rest, owner: user_id }).filter(
        ([, value]) => value !== undefined,
      );
      const page = await deps.auditLog.page({
        ...Object.fromEntries(conditions),
        limit,
        cursor: from ?? null,
      });
      const lines = page.items.map(({ at, ...line }) => ({ ...line, at: iso(at) }));
      return { data: { lines, cursor: page.cursor } };
    },
  }),
];
