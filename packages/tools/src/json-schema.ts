// How a tool's schemas become JSON Schema (2020-12): the shortest text that says the same, because every host pays for
// it with every conversation.

import { z } from "zod";
import type { Tool } from "./tool.ts";

/** A JSON Schema whose root is an object. */
export type ObjectSchema = { type: "object"; [key: string]: unknown };

export interface ToolJsonSchemas {
  input: ObjectSchema;
  output: ObjectSchema;
}

const cache = new WeakMap<Tool, ToolJsonSchemas>();

/** The JSON Schemas of a tool's input and output; made once per tool. Treat them as read-only. */
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

/** Drops what says nothing: the bounds of a safe integer, the type of a key, closed results (they may grow). */
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
