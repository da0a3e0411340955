// What a tool is: a value. Doors render it, control does it; nothing in here knows either.

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

/** What a host may assume, in the words of MCP (ToolAnnotations); every hint is true of every call. */
export interface ToolAnnotations {
  readOnlyHint: boolean;
  /** Whether a call may end or replace something that runs or is kept. */
  destructiveHint: boolean;
  /** Whether the same call again changes nothing more. */
  idempotentHint: boolean;
  /** Whether a call may reach beyond the owner's own records: a registry, the internet. */
  openWorldHint: boolean;
}

/** One tool. `input` checks what comes in; `output` describes every result that is no error. */
export interface Tool {
  /** snake_case `noun_verb`: dots break hosts. */
  readonly name: string;
  readonly title: string;
  /** For an agent: when to use it, and what comes next. */
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
