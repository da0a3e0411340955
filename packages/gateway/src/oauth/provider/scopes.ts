// Scopes: their texts for the consent page, and which of them a request and an account have.

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

/** The known scopes in a list separated by spaces, each once, in the order of {@link SCOPES}. */
export function knownScopes(text: unknown): Scope[] {
  const asked = new Set(typeof text === "string" ? text.split(" ") : []);
  return SCOPES.filter((scope) => asked.has(scope));
}

/** The scopes that an account can give to a token: `admin` includes every other. */
export function scopesOf(account: { scopes: readonly Scope[] }): readonly Scope[] {
  return account.scopes.includes("admin") ? SCOPES : account.scopes;
}

/** The scopes of a client that asks for none. */
export const DEFAULT_SCOPES: readonly Scope[] = SCOPES.filter((scope) => scope !== "admin");
