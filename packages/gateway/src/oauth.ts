// The public API of the OAuth 2.1 authorization server, which gives tokens to MCP hosts, agents and people.

export {
  createOAuthServer,
  isOAuthPath,
  type OAuthServer,
  type OAuthServerDeps,
} from "./oauth/oauth-server.ts";
export type { SafeFetchOptions } from "./oauth/provider/safe-fetch.ts";
