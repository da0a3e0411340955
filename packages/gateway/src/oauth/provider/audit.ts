// The audit log of the OAuth server: sign-ins, consents, tokens made, refusals. Never a token, never a login
// code.

import { randomBytes } from "node:crypto";
import type { ErrorCode } from "@formation-mcp/contract";
import type { GatewayDeps } from "../../http/deps.ts";
import { recordRefusal } from "../../http/refusals.ts";

/** Something that a person or an agent did. */
interface OAuthAction {
  action: string;
  owner: string;
  /** The id of the token that was made or ended. */
  credential?: string;
  /** The client that it was done for, or null. */
  target: string | null;
  address: string;
}

export interface OAuthAudit {
  /**
   * Stores an action; await it before the action takes effect.
   * @throws FormationError `unavailable` if the audit log fails.
   */
  record(action: OAuthAction): Promise<void>;
  /** Stores a refusal; the number per address and minute is bounded. */
  recordRefusal(path: string, method: string, outcome: ErrorCode, address: string): Promise<void>;
}

const MAX_TARGET_LENGTH = 200;

export function createOAuthAudit(deps: Pick<GatewayDeps, "audit" | "logger" | "clock">): OAuthAudit {
  const traceId = () => randomBytes(16).toString("hex");
  return {
    record({ credential, target, ...action }) {
      const client = target?.slice(0, MAX_TARGET_LENGTH) ?? null;
      const rest = { credential: credential ?? null, target: client, trace_id: traceId() };
      return deps.audit.record({ ...action, ...rest, outcome: "ok" }, { wait: true });
    },
    recordRefusal(path, method, outcome, address) {
      const endpoint = /^\/(oauth|auth)\/[a-z]{1,12}(?=\/|$)/.exec(path)?.[0] ?? "(unknown)";
      const action = `${method === "GET" || method === "POST" ? method : "OTHER"} ${endpoint}`;
      return recordRefusal(deps, { action, outcome, address, traceId: traceId() });
    },
  };
}
