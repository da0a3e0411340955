// A client of a Formation server, for Node and browsers.

export type { TokenRecord, TokenRequest, Tokens } from "./api-tokens.ts";
export type { RequestOptions } from "./authorized-wire.ts";
export type { CallOptions, Progress } from "./call.ts";
export {
  type Client,
  type ClientOptions,
  createClient,
  type Identity,
  type ListedTool,
} from "./client.ts";
export type { LoginCode } from "./login-codes.ts";
export type { SessionStorage } from "./session.ts";
export type { Session } from "./sign-in.ts";
export { keySigner, type Signature, type Signer, type Wallet, walletSigner } from "./signer.ts";
export type { Content, UploadedContext } from "./upload.ts";
export type { LogLine, LogOptions, OperationUpdate } from "./watch.ts";
export type { Fetch } from "./wire.ts";
