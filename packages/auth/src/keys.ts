// Keys and signatures, for Node and browsers. Nothing here uses a module of Node.

export { checksumAddress, recoverAddress, verifyPersonal } from "./keys/ethereum.ts";
export { keyId, type SignedText, signMessage, verifyMessage } from "./keys/identity.ts";
export { importKey } from "./keys/import.ts";
export { jwkThumbprint, type PublicJwk } from "./keys/jwk.ts";
export {
  generateKey,
  KEY_KINDS,
  type KeyKind,
  type KeyPair,
  keyFromPrivate,
  type PublicKey,
  type RandomBytes,
  verifyEd25519,
} from "./keys/pair.ts";
export {
  formatSignInMessage,
  parseSignInMessage,
  readChallenge,
  type SignInMessage,
} from "./keys/sign-in-message.ts";
