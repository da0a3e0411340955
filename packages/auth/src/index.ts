// Who is calling, and what the call may do.

export {
  allScopes,
  type Bounds,
  localPrincipal,
  type Principal,
  parseScopes,
  requireScope,
  SCOPES,
  type Scope,
} from "./principals/principal.ts";
