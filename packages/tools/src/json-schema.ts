// Turns a tool's schemas into JSON Schema (2020-12), as short as possible, because hosts pay for the tokens
// of every tool in every conversation.

import { z } from "zod";
import type { Tool } from "./tool.ts";

/** A JSON Schema whose root is an object. */
export type ObjectSchema = { type: "object"; [key: string]: unknown };

export interface ToolJsonSchemas {
  input: ObjectSchema;
  output: ObjectSchema;
}

const cache = new WeakMap<Tool, ToolJsonSchemas>();

/** The JSON Schemas of a tool's input and output. Made once per tool; treat them as read-only. */
export function toolJsonSchemas(tool: Tool): ToolJsonSchemas {
  let made = cache.get(tool);
  if (!made) {
    made = { input: render(tool.input, "input"), output: render(tool.output, "output") };
    cache.set(tool, made);
  }
  return made;
}

function render(schema: z.ZodObject, io: "input" | "output"): ObjectSchema {
  const json = z.toJSONSchema(schema, { io, override: ({ jsonSchema }) => shorten(jsonSchema, io) });
  delete json.$schema;
  return { ...json, type: "object" };
}

/**
 * Drops keywords without information: the bounds of a safe integer, the type of keys, and
 * `additionalProperties` of results, which may get more fields later.
 */
function shorten(schema: z.core.JSONSchema.BaseSchema, io: "input" | "output"): void {
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  if (schema.propertyNames !== undefined) delete schema.propertyNames;
  if (io === "output") delete schema.additionalProperties;
  else if (isEmpty(schema.additionalProperties)) delete schema.additionalProperties;
}

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}
