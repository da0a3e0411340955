// What scopes are in plain words, for whoever has to say yes or no.

import { SCOPES, type Scope } from "@formation-mcp/auth";

export const SCOPE_TEXTS: Readonly<Record<Scope, { title: string; detail: string; strong: boolean }>> = {
  "pack:read": {
    title: "See your builds",
    detail: "Read builds, their logs and their errors.",
    strong: false,
  },
  "pack:write": {
    title: "Build and ship",
    detail: "Make images from formfiles and ship them to virtual machines.",
    strong: true,
  },
  "vm:read": {
    title: "See your virtual machines",
    detail: "List them and read their state, addresses and logs.",
    strong: false,
  },
  "vm:write": {
    title: "Change your virtual machines",
    detail: "Create, start, stop and delete them, with what is on their disks.",
    strong: true,
  },
  "operation:read": {
    title: "Follow operations",
    detail: "See what is being done and how it ended.",
    strong: false,
  },
  "operation:write": {
    title: "Cancel operations",
    detail: "End builds and other long actions early.",
    strong: true,
  },
  admin: {
    title: "Administer this server",
    detail: "Everything, for every account: machines, keys, accounts, quotas and the audit log.",
    strong: true,
  },
};

/** The scopes of a list separated by spaces that exist, each once, in the table's order. */
export function knownScopes(text: unknown): Scope[] {
  const asked = new Set(typeof text === "string" ? text.split(" ") : []);
  return SCOPES.filter((scope) => asked.has(scope));
}

/** What an account may pass on: `admin` has every other scope. */
export function scopesOf(account: { scopes: readonly Scope[] }): readonly Scope[] {
  return account.scopes.includes("admin") ? SCOPES : account.scopes;
}

/** What a client gets that asked for nothing in particular. */
export const DEFAULT_SCOPES: readonly Scope[] = SCOPES.filter((scope) => scope !== "admin");
