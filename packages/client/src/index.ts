// Talk to a Formation server from Node or a browser.

export type { TokenRecord, TokenRequest, Tokens } from "./api-tokens.ts";
export type { Waiting } from "./authorized-wire.ts";
export type { CallOptions, Progress } from "./call.ts";
export {
  type Client,
  type ClientOptions,
  createClient,
  type Identity,
  type ListedTool,
} from "./client.ts";
export type { LoginCode } from "./login-codes.ts";
export type { Session, SessionStorage } from "./session.ts";
export { keySigner, type Signature, type Signer, type Wallet, walletSigner } from "./signer.ts";
export type { Content, UploadedContext } from "./upload.ts";
export type { LogLine, LogOptions, Watched } from "./watch.ts";
export type { Fetch } from "./wire.ts";
