// Wrong inputs for a tool, made from its published schema: every field once with every kind of value that it
// does not accept, and every required field once missing.

import type { Structured } from "./server.ts";

export interface Schema {
  type?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: Schema | boolean;
  items?: Schema;
  anyOf?: Schema[];
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  description?: string;
}

export interface WrongInput {
  what: string;
  /** JSON text, which can hold what no JavaScript value can, such as a number beyond all limits. */
  json: string;
}

/** Values of every kind as JSON texts, by kind. */
const VALUES: [kind: string, json: string][] = [
  ["null", "null"],
  ["boolean", "true"],
  ["integer", "7"],
  ["number", "1.5"],
  ["number", "-1e308"],
  ["number", "1e999"],
  ["string", '"x"'],
  ["string", `"${"x".repeat(100_000)}"`],
  ["string", '"\\u0000\\u001b[2J\\u202e\\ud800"'],
  ["array", "[]"],
  ["array", '[["a"]]'],
  ["object", "{}"],
  ["object", '{"__proto__":{"a":1}}'],
  ["object", `${'{"a":'.repeat(2000)}1${"}".repeat(2000)}`],
];

/** The kinds that a schema accepts; a string that breaks the limits of its schema is wrong too. */
function takes(schema: Schema): string[] {
  if (schema.anyOf) return schema.anyOf.flatMap(takes);
  if (schema.enum) return [];
  if (schema.type === "number") return ["number", "integer"];
  return schema.type ? [schema.type] : [];
}

/** A value that a schema accepts, for the fields that are not being tested. */
function plausible(name: string, schema: Schema): unknown {
  if (name === "formfile") return { from: "busybox", name: "x", entrypoint: ["true"] };
  if (schema.enum) return schema.enum[0];
  if (schema.type === "string") return "x";
  if (schema.type === "integer" || schema.type === "number") return schema.minimum ?? 1;
  return {};
}

export function wrongInputs(schema: Schema): WrongInput[] {
  const fields = Object.entries(schema.properties ?? {});
  const required = new Set(schema.required ?? []);
  const right = Object.fromEntries(
    fields.filter(([name]) => required.has(name)).map(([name, field]) => [name, plausible(name, field)]),
  );
  const found: WrongInput[] = [];
  for (const [name, field] of fields) {
    for (const [what, json] of wrongValues(field)) {
      const others: Structured = { ...right };
      delete others[name];
      const rest = JSON.stringify(others).slice(1, -1);
      found.push({ what: `${name}: ${what}`, json: `{${rest}${rest === "" ? "" : ","}"${name}":${json}}` });
    }
    if (required.has(name)) {
      const without: Structured = { ...right };
      delete without[name];
      found.push({ what: `no ${name}`, json: JSON.stringify(without) });
    }
  }
  found.push({ what: "an unknown field", json: JSON.stringify({ ...right, surprise: 1 }) });
  found.push({ what: "10,000 unknown fields", json: JSON.stringify({ ...right, ...many(10_000) }) });
  return found;
}

function wrongValues(schema: Schema): [string, string][] {
  const taken = takes(schema);
  const wrong = VALUES.filter(([kind]) => !taken.includes(kind)).map(([kind, json]): [string, string] => [
    `${kind} ${json.slice(0, 24)}`,
    json,
  ]);
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    if (schema.anyOf) break;
    for (const [what, json] of wrongValues(inner)) wrong.push([`${name}: ${what}`, `{"${name}":${json}}`]);
  }
  const values = schema.additionalProperties;
  if (schema.type === "object" && typeof values === "object") {
    for (const [what, json] of wrongValues(values)) wrong.push([`{k: ${what}}`, `{"k":${json}}`]);
    wrong.push(["the key __proto__", `{"__proto__":${JSON.stringify(plausible("", values))}}`]);
  }
  if (schema.items)
    for (const [what, json] of wrongValues(schema.items)) wrong.push([`[${what}]`, `[${json}]`]);
  if (schema.minimum !== undefined) wrong.push(["too small", String(schema.minimum - 1)]);
  if (schema.maximum !== undefined) wrong.push(["too large", String(schema.maximum + 1)]);
  if (schema.maxLength !== undefined)
    wrong.push(["too long", JSON.stringify("x".repeat(schema.maxLength + 1))]);
  if (schema.minLength !== undefined) wrong.push(["empty", '""']);
  return wrong;
}

function many(count: number): Structured {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, n]));
}
