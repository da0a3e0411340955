// Who is calling, and what the call may do: principals and scopes.

export { type Bounds, localPrincipal, type Principal, requireScope } from "./principals/principal.ts";
export { allScopes, parseScopes, SCOPES, type Scope } from "./principals/scopes.ts";
