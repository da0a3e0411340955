// The tools of a team's server behind the same interface as the local control. They run there as the account
// that is signed in.

import { type Principal, requireScope, type Scope } from "@formation-mcp/auth";
import type { Client } from "@formation-mcp/client";
import { FormationError, type Logger } from "@formation-mcp/contract";
import type { Control } from "@formation-mcp/control";
import type { ToolName } from "@formation-mcp/tools";
import { LISTING } from "@formation-mcp/tools/listing";
import { createContextUploader } from "./contexts.ts";

export interface RemoteControlOptions {
  client: Client;
  allowDirs: readonly string[];
  /** Paths that no context may include. */
  privatePaths: readonly string[];
  logger: Logger;
}

/** How long the start may wait for a server that does not answer. */
const START_MS = 5_000;

/**
 * A control that runs every tool on the server. It asks once which tools the user may use. If the server does
 * not answer, it offers all of them, and each call reports the error.
 */
export async function remoteControl(options: RemoteControlOptions): Promise<Control> {
  const { client, logger } = options;
  const prepareContext = createContextUploader({
    client,
    allow: options.allowDirs,
    apart: options.privatePaths,
  });
  const scopes = new Map<string, Scope>(LISTING.map(({ name, scope }) => [name, scope]));
  const offered = await client.tools({ signal: AbortSignal.timeout(START_MS) }).then(
    (tools) => new Set(tools.map(({ name }) => name)),
    (thrown: unknown) => {
      const { code, message, details } = FormationError.from(thrown);
      const why = code === "cancelled" ? `${client.url} did not answer in ${START_MS / 1000} s.` : message;
      logger.log("warn", `The server's tools are not known: ${why}`, { remedy: details.remedy });
      return null;
    },
  );
  const allows = ({ scopes: held }: Principal, scope: Scope | undefined) =>
    scope !== undefined && (held.has(scope) || held.has("admin"));

  return {
    offers: (principal, tool) => allows(principal, scopes.get(tool)) && (offered?.has(tool) ?? true),
    async call(principal, tool, input, hooks = {}) {
      const scope = scopes.get(tool);
      if (scope === undefined)
        throw new FormationError("not_found", "There is no such tool.", { field: "tool" });
      requireScope(principal, scope);
      const given = asObject(input);
      const { input: prepared, warnings } =
        tool === "pack_build" ? await prepareContext(given, hooks.signal) : { input: given, warnings: [] };
      const { signal, onProgress } = hooks;
      const result: Record<string, unknown> = await client.call(tool as ToolName, prepared as never, {
        signal,
        onProgress,
      });
      const said = result["warnings"];
      return warnings.length === 0
        ? result
        : { ...result, warnings: [...(Array.isArray(said) ? said : []), ...warnings] };
    },
  };
}

function asObject(input: unknown): Record<string, unknown> {
  if (typeof input === "object" && input !== null && !Array.isArray(input)) return { ...input };
  throw new FormationError("invalid", "The arguments of a tool are an object.", { field: "input" });
}
