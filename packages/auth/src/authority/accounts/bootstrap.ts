// How a fresh server gets its first admin: a one-time token on its console, and one gate in the store that lets one key
// through, however many processes print tokens and however many keys come at once.

import { type Clock, type Documents, FormationError } from "@formation-mcp/contract";
import { isConflict } from "./accounts.ts";
import { hashOf, type Secrets, sameSecret } from "../storage/secrets.ts";

const KIND = "bootstrap";
const GATE = "admin";
const TOKEN = /^fmb_([0-9a-f]{16})_([A-Za-z0-9_-]{43})$/;
const TOKEN_MS = 24 * 60 * 60_000;
/** Who passed the gate becomes admin within this time, or another may pass. */
const CLAIM_MS = 60_000;

export interface Bootstrap {
  /** A new token, or null once there is or was an admin. */
  token(): Promise<string | null>;
  /** @throws FormationError `unauthenticated` unless it is a token of ours and the gate is open. */
  check(token: string): Promise<void>;
  /** Closes the gate behind an account that is about to become admin; true for the one who closed it. */
  close(owner: string): Promise<boolean>;
  /** Notes that it has become admin: the gate stays closed for ever. */
  confirm(owner: string): Promise<void>;
}

interface Gate {
  owner: string;
  at: number;
  confirmed: boolean;
}

export function bootstrapIn(documents: Documents, secrets: Secrets, clock: Clock): Bootstrap {
  const gate = () => documents.get<Gate>(KIND, GATE);
  const isClosed = ({ doc }: { doc: Gate }) => doc.confirmed || clock.now() - doc.at <= CLAIM_MS;
  const isOpen = async () => {
    const passed = await gate();
    return passed === null || !isClosed(passed);
  };

  return {
    token: async () => {
      if (!(await isOpen())) return null;
      const id = Buffer.from(secrets.random(8)).toString("hex");
      const secret = Buffer.from(secrets.random(32)).toString("base64url");
      const expires_at = clock.now() + TOKEN_MS;
      await documents.put({ kind: KIND, id, group: KIND, doc: { hash: hashOf(secret) }, expires_at }, 0);
      return `fmb_${id}_${secret}`;
    },
    check: async (token) => {
      const [, id, secret = ""] =
        (typeof token === "string" && token.length < 128 && TOKEN.exec(token)) || [];
      const stored = id === undefined ? null : await documents.get<{ hash: string }>(KIND, id);
      if (!stored || !sameSecret(hashOf(secret), stored.doc.hash) || !(await isOpen())) throw notOpen();
    },
    close: async (owner) => {
      const passed = await gate();
      if (passed && isClosed(passed)) return false;
      try {
        const doc: Gate = { owner, at: clock.now(), confirmed: false };
        await documents.put({ kind: KIND, id: GATE, doc }, passed?.version ?? 0);
      } catch (error) {
        if (isConflict(error)) return false;
        throw error;
      }
      await documents.removeAll({ kinds: [KIND], group: KIND });
      return true;
    },
    confirm: async (owner) => {
      const passed = await gate();
      if (passed?.doc.confirmed === false && passed.doc.owner === owner) {
        await documents.put<Gate>(
          { kind: KIND, id: GATE, doc: { ...passed.doc, confirmed: true } },
          passed.version,
        );
      }
    },
  };
}

/** What is said of a bootstrap token that is not taken. */
export function notOpen(): FormationError {
  return new FormationError("unauthenticated", "The bootstrap token is not valid, or was used before.", {
    remedy: "Use the token that the server printed at its last start, while it has no admin yet.",
  });
}
