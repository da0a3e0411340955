// A private key in a file: mode 0600, or sealed with a passphrase as well.

import type { KeyPair } from "./keys/pair.ts";

export type { KeyPair };
