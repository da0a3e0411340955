// The authority of a server: it issues challenges, turns signatures into tokens, authenticates bearer tokens,
// and revokes tokens, keys and accounts. All its state is in documents, so any number of server processes are
// one authority. This folder holds the package's entry points, one file each.

export type { Account, AccountKey } from "./authority/accounts/types.ts";
export { createAuthority } from "./authority/create-authority.ts";
export type { ApiToken, Authenticated, TokenPair } from "./authority/tokens/types.ts";
export type { Authority, AuthorityOptions, Challenge, SignedMessage } from "./authority/types.ts";
