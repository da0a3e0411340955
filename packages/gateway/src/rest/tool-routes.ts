// The tools over REST: the list in the ancestor's format with JSON Schemas added, and one call per tool, by
// our name or by the ancestor's.

import type { Principal, Scope } from "@formation-mcp/auth";
import { allScopes } from "@formation-mcp/auth";
import { FormationError, idKind } from "@formation-mcp/contract";
import { LISTING, type ListedTool } from "@formation-mcp/tools/listing";
import { z } from "zod";
import { asAncestor } from "./alias-results.ts";
import { ALIASES, type Alias, findAlias, type Translated } from "./aliases.ts";
import { type Exchange, type Route, route } from "./route.ts";

type Json = Record<string, unknown>;

const definition = z.object({
  name: z.string(),
  title: z.string().optional(),
  description: z.string(),
  version: z.string(),
  parameters: z.array(
    z.object({
      name: z.string(),
      description: z.string(),
      required: z.boolean(),
      parameter_type: z.string(),
      default: z.unknown().optional(),
      enum_values: z.array(z.unknown()).nullable(),
    }),
  ),
  return_type: z.string(),
  tags: z.array(z.string()),
  is_long_running: z.boolean(),
  alias_of: z.string().optional().describe("The tool that is called under this old name"),
  scope: z.string().describe("What a token needs for it"),
  input_schema: z.record(z.string(), z.unknown()).describe("JSON Schema 2020-12"),
  output_schema: z.record(z.string(), z.unknown()).optional(),
});

/** Tools that start an operation and may return before it ends. */
const LONG_RUNNING = new Set(
  LISTING.filter(
    ({ input, annotations }) => !annotations.readOnlyHint && "wait_seconds" in propertiesOf(input),
  ).map(({ name }) => name),
);
/** Tools that take an idempotency key. */
const TAKES_KEY = new Set(
  LISTING.filter(({ input }) => "idempotency_key" in propertiesOf(input)).map(({ name }) => name),
);

export const TOOL_ROUTES: readonly Route[] = [
  route({
    method: "GET",
    path: "/api/tools",
    access: "any",
    tag: "tools",
    id: "listTools",
    summary: "List the tools that the token may use",
    description: "Ours first, then the ancestor's names for them.",
    query: z.object({ category: z.string().max(80).optional().describe("Only tools with this tag") }),
    data: z.object({ tools: z.array(definition), categories: z.array(z.string()) }),
    async handle({ deps, caller, query }) {
      const offered = new Set(
        LISTING.map(({ name }) => name).filter((name) => deps.control.offers(caller.principal, name)),
      );
      const all = [
        ...LISTING.filter(({ name }) => offered.has(name)).map((tool) => toolDefinition(tool, deps.version)),
        ...ALIASES.filter(({ tool }) => offered.has(tool)).map((alias) =>
          aliasDefinition(alias, deps.version),
        ),
      ];
      const { category } = query;
      return {
        data: {
          tools: category === undefined ? all : all.filter(({ tags }) => tags.includes(category)),
          categories: [...new Set(all.flatMap(({ tags }) => tags.slice(0, 1)))],
        },
      };
    },
  }),
  route({
    method: "POST",
    path: "/api/tools/{name}",
    access: "any",
    tag: "tools",
    id: "executeTool",
    audited: "by control",
    summary: "Call a tool",
    description:
      "The body is {parameters: {…}} or the tool's input itself; an Idempotency-Key header is idempotency_key. Under one of the ancestor's names the call answers at once with an operation to follow.",
    body: z.record(z.string(), z.unknown()),
    data: z.record(z.string(), z.unknown()),
    errors: [400, 404, 409, 413],
    async handle(exchange) {
      const { deps, caller, params, body } = exchange;
      const name = params["name"] ?? "";
      const alias = findAlias(name);
      const tool = alias?.tool ?? name;
      // Control refuses a caller who may not use the tool; the input does not matter.
      if (!deps.control.offers(caller.principal, tool)) await exchange.tool(tool, {});
      const { input, notes } = parseBody(body);
      const keyed = withIdempotencyKey(exchange, name, input);
      if (!alias) {
        const data = await exchange.tool(name, keyed);
        return { data, message: notes.join(" ") || null };
      }
      const translated = alias.translate(keyed);
      const { result, warnings } = await callAlias(exchange, alias, translated, keyed);
      const messages = [...warnings, ...notes];
      return { data: asAncestor(alias.name, result, messages), message: messages.join(" ") || null };
    },
  }),
];

/** The input in a body: the ancestor's form {parameters, context}, or the tool's input itself. */
function parseBody(body: Json): { input: Json; notes: string[] } {
  if (!Object.hasOwn(body, "parameters")) return { input: body, notes: [] };
  const { parameters, context, ...others } = body;
  if (typeof parameters !== "object" || parameters === null || Array.isArray(parameters)) {
    throw new FormationError("invalid", "parameters must be an object.", { field: "parameters" });
  }
  const [other] = Object.keys(others);
  if (other !== undefined) {
    throw new FormationError(
      "invalid",
      `There is no field ${JSON.stringify(other.slice(0, 60))} beside parameters.`,
      {
        field: other.slice(0, 60),
        remedy: "Put what the tool takes into parameters.",
      },
    );
  }
  const given = typeof context === "object" && context !== null ? Object.keys(context).length : 0;
  const unused = given === 0 ? [] : ["context is not used: files go into context_files."];
  return { input: parameters as Json, notes: unused };
}

/**
 * Takes the Idempotency-Key header as `idempotency_key`, for tools that have one.
 * @throws FormationError `invalid` if the input has another key.
 */
function withIdempotencyKey({ c }: Pick<Exchange, "c">, name: string, input: Json): Json {
  const key = c.req.header("idempotency-key");
  if (key === undefined || !TAKES_KEY.has(findAlias(name)?.tool ?? name)) return input;
  const given = input["idempotency_key"];
  if (given === undefined || given === key) return { ...input, idempotency_key: key };
  throw new FormationError("invalid", "The Idempotency-Key header and idempotency_key differ.", {
    field: "idempotency_key",
    remedy: "Give one of them.",
  });
}

/** Calls the tool behind an alias, with what the ancestor did differently. */
async function callAlias(
  exchange: Exchange,
  alias: Alias,
  { tool, input, warnings }: Translated,
  given: Json,
): Promise<{ result: Json; warnings: string[] }> {
  if (tool === "vm_delete") {
    return {
      result: await exchange.tool(tool, { ...input, confirm: await instanceName(exchange, input) }),
      warnings,
    };
  }
  if (tool === "vm_list") {
    const as =
      given["all_users"] === true ? requireAdmin(exchange) : ownRecordsOnly(exchange.caller.principal);
    return { result: await exchange.tool(tool, input, { as }), warnings };
  }
  try {
    return { result: await exchange.tool(tool, input), warnings };
  } catch (error) {
    if (!needsAnotherName(error, alias, input)) throw error;
    const as = withScope(exchange.caller.principal, "pack:read");
    const build = await exchange.tool("build_get", { build_id: input["build_id"], log_tail: 0 }, { as });
    const name = String(build["name"]).slice(0, 56);
    const other = `${name}-${Buffer.from(exchange.deps.random(3)).toString("hex")}`;
    const result = await exchange.tool(tool, { ...input, instance_name: other });
    const warning = `The name ${name} is in use, so this VM is called ${other}; give instance_name, with replace: true to swap.`;
    return { result, warnings: [...warnings, warning] };
  }
}

/** The instance's name, which vm_delete wants as a confirmation; the ancestor needed the id only. */
async function instanceName(exchange: Exchange, input: Json): Promise<string> {
  const reference = String(input["instance"]);
  if (idKind(reference) !== "vm") return reference;
  const as = withScope(exchange.caller.principal, "vm:read");
  return String((await exchange.tool("vm_status", { instance: reference }, { as }))["name"]);
}

/** The principal for reading a name that the alias needs: a call must not need a second scope for it. */
function withScope(principal: Principal, scope: Scope): Principal {
  return { ...principal, scopes: new Set([...principal.scopes, scope]) };
}

/**
 * Whether a ship failed only because an instance has the build's name already. The ancestor made a new VM
 * with every ship, so such a ship is repeated with another name. With an idempotency key it is not, because a
 * repeated call would differ.
 */
function needsAnotherName(error: unknown, alias: Alias, input: Json): boolean {
  if (!(error instanceof FormationError) || error.code !== "conflict") return false;
  const free = !("instance_name" in input || "idempotency_key" in input || input["replace"] === true);
  return alias.name === "form_pack_ship" && free && error.details.field === "instance_name";
}

/** The principal without `admin`, so that it sees only its own records. */
export function ownRecordsOnly(principal: Principal): Principal {
  if (!principal.scopes.has("admin")) return principal;
  return { ...principal, scopes: allScopes() };
}

/** @throws FormationError `forbidden` unless the caller is an admin. */
function requireAdmin({ caller }: Pick<Exchange, "caller">): Principal {
  if (caller.principal.scopes.has("admin")) return caller.principal;
  throw new FormationError("forbidden", "Only an admin sees everybody's VMs.", {
    field: "all_users",
    remedy: "Leave all_users out.",
  });
}

function toolDefinition(tool: ListedTool, version: string): z.output<typeof definition> {
  const { name, title, description, scope, input, output } = tool;
  const [noun = ""] = name.split("_");
  return {
    name,
    title,
    description,
    version,
    parameters: parametersIn(input),
    return_type: "object",
    tags: noun === "build" ? ["pack", "build"] : [noun],
    is_long_running: LONG_RUNNING.has(name),
    scope,
    input_schema: input,
    output_schema: output,
  };
}

function aliasDefinition(alias: Alias, version: string): z.output<typeof definition> {
  const { $schema: _, ...input } = z.toJSONSchema(alias.parameters, { io: "input" }) as Json;
  return {
    name: alias.name,
    description: alias.description,
    version,
    parameters: parametersIn(input),
    return_type: alias.returns,
    tags: [...alias.tags],
    is_long_running: LONG_RUNNING.has(alias.tool),
    alias_of: alias.tool,
    scope: LISTING.find(({ name }) => name === alias.tool)?.scope ?? ("admin" satisfies Scope),
    input_schema: input,
  };
}

function parametersIn(schema: Json): z.output<typeof definition>["parameters"] {
  const required = new Set(Array.isArray(schema["required"]) ? schema["required"] : []);
  return Object.entries(propertiesOf(schema)).map(([name, property]) => ({
    name,
    description: typeof property["description"] === "string" ? property["description"] : "",
    required: required.has(name),
    parameter_type: typeOf(property),
    ...("default" in property ? { default: property["default"] } : {}),
    enum_values: Array.isArray(property["enum"]) ? property["enum"] : null,
  }));
}

function propertiesOf(schema: Json): Record<string, Json> {
  return (schema["properties"] ?? {}) as Record<string, Json>;
}

/** The ancestor had one type per parameter: here the first that is not null. */
function typeOf(property: Json): string {
  if (typeof property["type"] === "string") return property["type"];
  const ways = property["anyOf"] ?? property["oneOf"];
  const types = (Array.isArray(ways) ? (ways as Json[]) : []).map(typeOf).filter((type) => type !== "null");
  return types[0] ?? "object";
}
