// Who is calling, and what the call may do.

export {
  allScopes,
  localPrincipal,
  type Principal,
  parseScopes,
  requireScope,
  SCOPES,
  type Scope,
} from "./principal.ts";
