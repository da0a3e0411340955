// The language as JSON Schema, made from the same patterns and limits as the rules: complete for editors, and
// shortened for tool lists, where every token costs in each request.
import { z } from "zod";
import { REFERENCE_PATTERN } from "./image-reference.ts";
import { FORMFILE_LIMITS as LIMITS } from "./limits.ts";
import { ENV_KEY_PATTERN, NAME_PATTERN } from "./rules.ts";
import { DEFAULTS } from "./types.ts";

type Schema = { [key: string]: unknown };

const CONTROL = "\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069";
const PROSE = `^[^${CONTROL}]*$`;
const COMMAND = `^(?=[\\s\\S]*\\S)[^${CONTROL}]*$`;
const LABEL = `^[^\\t\\n${CONTROL}]*$`;
const PATH = `^(?![/~])(?![A-Za-z]:/)(?!(?:[\\s\\S]*/)?\\.\\.(?:/|$))(?=[\\s\\S]*\\S)[^\\\\*?\\t\\n${CONTROL}]+$`;

function bounded(bounds: { min: number; max: number }, description: string, normal?: number): Schema {
  return {
    type: "integer",
    minimum: bounds.min,
    maximum: bounds.max,
    ...(normal === undefined ? {} : { default: normal }),
    description,
  };
}

function properties(): Schema {
  return {
    from: {
      type: "string",
      maxLength: LIMITS.fromLength,
      pattern: REFERENCE_PATTERN,
      description: 'Base image: OCI reference such as debian:12, or "scratch"',
      examples: ["debian:12", "ghcr.io/acme/api:1.4", "scratch"],
    },
    name: {
      type: "string",
      pattern: NAME_PATTERN,
      description: "Workload name, a-z 0-9 and hyphens; default: from's last part",
    },
    run: {
      type: "array",
      items: { type: "string", pattern: COMMAND },
      default: [],
      description: "Shell commands run in order at build time",
    },
    include: {
      type: "array",
      items: { type: "string", maxLength: LIMITS.pathBytes, pattern: PATH },
      uniqueItems: true,
      default: [],
      description: 'Context files and directories to copy in, relative, no globs; "." is all',
    },
    env: {
      type: "object",
      propertyNames: { pattern: ENV_KEY_PATTERN },
      additionalProperties: { type: "string", pattern: PROSE },
      default: {},
      description: "Environment variables",
    },
    expose: {
      type: "array",
      items: bounded(LIMITS.port, "A TCP port"),
      maxItems: LIMITS.exposedPorts,
      uniqueItems: true,
      default: [],
      description: "TCP ports the workload listens on",
    },
    entrypoint: {
      anyOf: [
        { type: "string", pattern: COMMAND },
        { type: "array", items: { type: "string", pattern: PROSE }, minItems: 1 },
        { type: "null" },
      ],
      default: null,
      description: "String: run by a shell; array: run as is; default: the base image's",
    },
    resources: {
      type: "object",
      additionalProperties: false,
      default: DEFAULTS.resources,
      description: "Size of the VM",
      properties: {
        vcpus: bounded(LIMITS.vcpus, "Virtual CPUs", DEFAULTS.resources.vcpus),
        memory_mb: bounded(LIMITS.memoryMb, "Memory in MiB", DEFAULTS.resources.memory_mb),
        disk_gb: bounded(LIMITS.diskGb, "Disk in GiB", DEFAULTS.resources.disk_gb),
      },
    },
    network: {
      type: "object",
      additionalProperties: false,
      description: "No effect yet",
      properties: {
        join_formnet: {
          type: "boolean",
          default: DEFAULTS.network.join_formnet,
          description: "Join the private network; no effect yet",
        },
        external_networks: {
          type: "array",
          items: { type: "string", pattern: LABEL, minLength: 1 },
          maxItems: LIMITS.externalNetworks,
          uniqueItems: true,
          default: [],
          description: "Other networks to join; no effect yet",
        },
      },
    },
    metadata: {
      type: "object",
      propertyNames: { minLength: 1, maxLength: LIMITS.metadataBytes, pattern: LABEL },
      additionalProperties: { type: "string", maxLength: LIMITS.metadataBytes, pattern: LABEL },
      maxProperties: LIMITS.metadataKeys,
      default: {},
      description: "Your labels, to list and filter by",
    },
  };
}

/** JSON Schema 2020-12 of a formfile, for editors. A fresh object each time. */
export function formfileJsonSchema(): { [key: string]: unknown } {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    $id: "urn:formation-mcp:formfile",
    title: "Formfile",
    description: "What to build into a virtual machine and how to run it.",
    type: "object",
    required: ["from"],
    additionalProperties: false,
    properties: properties(),
    if: { properties: { from: { const: "scratch" } }, required: ["from"] },
    // biome-ignore lint/suspicious/noThenProperty: the keyword of JSON Schema.
    then: { properties: { run: { maxItems: 0 }, entrypoint: { type: "array" } }, required: ["entrypoint"] },
  };
}

/** Keywords left out of tool lists: the issues of a parse say the same when it matters. */
const KEYWORDS_LEFT_OUT = new Set([
  "pattern",
  "maxLength",
  "minLength",
  "maxItems",
  "minItems",
  "maxProperties",
  "uniqueItems",
  "propertyNames",
  "examples",
]);

/** Keeps names, types, limits of sizes and one description for each key. */
function shorten(schema: unknown, level = 0): unknown {
  if (Array.isArray(schema)) return schema.map((item) => shorten(item, level + 1));
  if (typeof schema !== "object" || schema === null) return schema;
  const kept = Object.entries(schema).filter(([key, value]) => {
    if (KEYWORDS_LEFT_OUT.has(key) || (key === "description" && level > 2)) return false;
    return key !== "default" || typeof value === "number";
  });
  return Object.fromEntries(kept.map(([key, value]) => [key, shorten(value, level + 1)]));
}

/**
 * The formfile as tool input. The schema describes but accepts everything: `parseFormfile` checks, because it
 * reports every issue with its remedy, while a schema would only name a type.
 */
export const formfileSchema = z.unknown().meta({
  type: "object",
  required: ["from"],
  additionalProperties: false,
  properties: shorten(properties()),
});
