// Pack a directory and upload it (Node alone).

export type { TokenPair } from "@formation-mcp/auth/authority";
