// Talk to a Formation server from Node or a browser.

export type { TokenPair } from "@formation-mcp/auth/authority";
