// The authority of a server: it hands out challenges, turns signatures into tokens, says who a token is, and takes all of
// it back. Everything it knows is in documents, so that any number of server processes are one authority.

export { createAuthority } from "./authority/create-authority.ts";
export type {
  Account,
  AccountKey,
  ApiToken,
  Authenticated,
  Authority,
  AuthorityOptions,
  Challenge,
  SignedMessage,
  TokenPair,
} from "./authority/types.ts";
