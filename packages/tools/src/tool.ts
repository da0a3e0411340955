// The type of a tool. A tool is a value: front ends render it, control runs it, and nothing here knows
// either.

import type { z } from "zod";

/** The scopes that a tool may ask for. */
export type ToolScope =
  | "pack:read"
  | "pack:write"
  | "vm:read"
  | "vm:write"
  | "operation:read"
  | "operation:write"
  | "admin";

/** MCP's ToolAnnotations. Every hint is true of every call. */
export interface ToolAnnotations {
  readOnlyHint: boolean;
  /** Whether a call may end or replace something that runs or is kept. */
  destructiveHint: boolean;
  /** Whether repeating the same call has no further effect. */
  idempotentHint: boolean;
  /** Whether a call may reach beyond the owner's own records: a registry, the internet. */
  openWorldHint: boolean;
}

/** One tool. `input` checks the arguments; `output` describes every result that is not an error. */
export interface Tool {
  /** snake_case `noun_verb`. Dots would break hosts. */
  readonly name: string;
  readonly title: string;
  /** For an agent: when to use the tool, and what to do next. */
  readonly description: string;
  readonly input: z.ZodObject;
  readonly output: z.ZodObject;
  readonly scope: ToolScope;
  readonly annotations: ToolAnnotations;
}

/** The annotations of a tool that changes nothing. */
export const READS: ToolAnnotations = {
  readOnlyHint: true,
  destructiveHint: false,
  idempotentHint: true,
  openWorldHint: false,
};

/** The annotations of a tool that changes something. */
export function writes(hints: Partial<Omit<ToolAnnotations, "readOnlyHint">>): ToolAnnotations {
  return {
    readOnlyHint: false,
    destructiveHint: hints.destructiveHint ?? false,
    idempotentHint: hints.idempotentHint ?? false,
    openWorldHint: hints.openWorldHint ?? false,
  };
}
