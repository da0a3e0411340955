// What the OAuth server tells the audit log: who signed in, who allowed what to which client, which tokens were made, and
// what was refused. Never a token, never a code.

import { randomBytes } from "node:crypto";
import type { ErrorCode } from "@formation-mcp/contract";
import type { GatewayDeps } from "../../http/deps.ts";
import { recordRefusal } from "../../http/refusals.ts";

/** Something that a person or an agent did. */
interface Deed {
  action: string;
  owner: string;
  /** The id of the token that was made. */
  credential?: string;
  /** The client that it was done for. */
  target: string | null;
  address: string;
}

export interface OAuthAudit {
  /**
   * Stores a deed; to be awaited before it takes effect.
   * @throws FormationError `unavailable` if it can't be stored.
   */
  tell(deed: Deed): Promise<void>;
  /** Stores a refusal, of a flood only some. */
  refuse(path: string, method: string, outcome: ErrorCode, address: string): Promise<void>;
}

const TARGET_LENGTH = 200;

export function createOAuthAudit(deps: Pick<GatewayDeps, "audit" | "logger" | "clock">): OAuthAudit {
  const traceId = () => randomBytes(16).toString("hex");
  return {
    tell({ credential, target, ...deed }) {
      const client = target?.slice(0, TARGET_LENGTH) ?? null;
      const made = { credential: credential ?? null, target: client, trace_id: traceId() };
      return deps.audit.record({ ...deed, ...made, outcome: "ok" }, { wait: true });
    },
    refuse(path, method, outcome, address) {
      const room = /^\/(oauth|auth)\/[a-z]{1,12}(?=\/|$)/.exec(path)?.[0] ?? "(unknown)";
      const action = `${method === "GET" || method === "POST" ? method : "OTHER"} ${room}`;
      return recordRefusal(deps, { action, outcome, address, traceId: traceId() });
    },
  };
}
