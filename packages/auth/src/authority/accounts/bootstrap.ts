// How a fresh server gets its first admin: a one-time token on its console, and one gate document in the
// store that lets one key through, however many processes print tokens and however many keys come at once.

import { type Clock, type Documents, FormationError } from "@formation-mcp/contract";
import { isConflict } from "../storage/documents.ts";
import { hashOf, type Secrets, sameSecret } from "../storage/secrets.ts";

const KIND = "bootstrap";
const GATE_ID = "admin";
const TOKEN = /^fmb_([0-9a-f]{16})_([A-Za-z0-9_-]{43})$/;
const TOKEN_MS = 24 * 60 * 60_000;
/** An account that closed the gate must be confirmed as admin within this time, or the gate opens again. */
const CLAIM_MS = 60_000;

export interface Bootstrap {
  /** A new token, or null once there is or was an admin. */
  token(): Promise<string | null>;
  /** @throws FormationError `unauthenticated` unless the token is genuine and the gate is open. */
  check(token: string): Promise<void>;
  /**
   * Closes the gate for an account that is about to become admin.
   * @returns true for the one caller that closed it
   */
  close(owner: string): Promise<boolean>;
  /** Records that the account has become admin. The gate stays closed for ever. */
  confirm(owner: string): Promise<void>;
}

/** The gate document. `at` is when it was closed, in milliseconds. */
interface Gate {
  owner: string;
  at: number;
  confirmed: boolean;
}

export function createBootstrap(documents: Documents, secrets: Secrets, clock: Clock): Bootstrap {
  const readGate = () => documents.get<Gate>(KIND, GATE_ID);
  const isClosed = ({ doc }: { doc: Gate }) => doc.confirmed || clock.now() - doc.at <= CLAIM_MS;
  const isOpen = async () => {
    const gate = await readGate();
    return gate === null || !isClosed(gate);
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
      if (!stored || !sameSecret(hashOf(secret), stored.doc.hash) || !(await isOpen())) {
        throw invalidBootstrapToken();
      }
    },
    close: async (owner) => {
      const gate = await readGate();
      if (gate && isClosed(gate)) return false;
      try {
        const doc: Gate = { owner, at: clock.now(), confirmed: false };
        await documents.put({ kind: KIND, id: GATE_ID, doc }, gate?.version ?? 0);
      } catch (error) {
        if (isConflict(error)) return false;
        throw error;
      }
      await documents.removeAll({ kinds: [KIND], group: KIND });
      return true;
    },
    confirm: async (owner) => {
      const gate = await readGate();
      if (gate?.doc.confirmed === false && gate.doc.owner === owner) {
        await documents.put<Gate>(
          { kind: KIND, id: GATE_ID, doc: { ...gate.doc, confirmed: true } },
          gate.version,
        );
      }
    },
  };
}

/** The error for a bootstrap token that is not accepted. */
export function invalidBootstrapToken(): FormationError {
  return new FormationError("unauthenticated", "The bootstrap token is not valid, or was used before.", {
    remedy: "Use the token that the server printed at its last start, while it has no admin yet.",
  });
}
