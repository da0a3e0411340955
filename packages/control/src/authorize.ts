// Which tools a principal may use: the scopes of its token, within the bounds that the operator set for
// everyone. Listings and calls use the same gate. It needs no store, only the table of tools.

import { type Principal, requireScope } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import { LISTING } from "@formation-mcp/tools/listing";

/** The operator's bounds on the tools. They apply to every principal, admins too. */
export interface ToolBounds {
  /** Only tools that change nothing. Default: false. */
  readOnly?: boolean;
  /** Only these tools, by name; all by default. */
  allowTools?: readonly string[];
  /** Not these tools, by name; this overrides `allowTools`. */
  denyTools?: readonly string[];
}

export interface ToolGate {
  /** Whether a principal may use the tool of that name. */
  offers(principal: Principal, tool: string): boolean;
  /**
   * @throws FormationError `not_found` for a tool that is unknown or not offered, `forbidden` if the server
   *   is read-only or the token lacks the scope.
   */
  require(principal: Principal, tool: string): void;
}

/**
 * Creates the gate over the table of tools.
 * @throws FormationError `invalid` if the bounds name an unknown tool: a misspelt `denyTools` must not allow
 *   a tool silently.
 */
export function createToolGate(bounds: ToolBounds = {}): ToolGate {
  const { readOnly = false, allowTools, denyTools = [] } = bounds;
  const names = new Set(LISTING.map(({ name }) => name));
  for (const [field, list] of [
    ["allowTools", allowTools ?? []],
    ["denyTools", denyTools],
  ] as const) {
    const unknown = list.filter((name) => !names.has(name));
    if (unknown.length === 0) continue;
    throw new FormationError(
      "invalid",
      `There is no tool ${unknown.slice(0, 10).join(", ").slice(0, 400)}.`,
      {
        field,
        remedy: `Use some of: ${[...names].join(", ")}.`,
      },
    );
  }
  const offered = new Map(
    LISTING.filter(({ name }) => (allowTools?.includes(name) ?? true) && !denyTools.includes(name)).map(
      (tool) => [tool.name, tool],
    ),
  );
  const closed = (tool: (typeof LISTING)[number]) => readOnly && !tool.annotations.readOnlyHint;
  return {
    offers(principal, name) {
      const tool = offered.get(name);
      if (!tool || closed(tool)) return false;
      return principal.scopes.has(tool.scope) || principal.scopes.has("admin");
    },
    require(principal, name) {
      const tool = offered.get(name);
      if (!tool) {
        throw new FormationError("not_found", `There is no tool ${JSON.stringify(name.slice(0, 80))}.`, {
          field: "tool",
          remedy: `Use one of: ${[...offered.keys()].join(", ")}.`,
        });
      }
      if (closed(tool)) {
        throw new FormationError("forbidden", "This server is read-only.", {
          remedy: "Use a server that takes changes, or ask the operator.",
        });
      }
      requireScope(principal, tool.scope);
    },
  };
}
