// The OAuth 2.1 authorization server on the same origin: how MCP hosts, agents and people get tokens.

export { createOAuth, isOAuthPath, type OAuth, type OAuthDeps } from "./oauth/oauth-server.ts";
export type { OutsideOptions } from "./oauth/provider/safe-fetch.ts";
