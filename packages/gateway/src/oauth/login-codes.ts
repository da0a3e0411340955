// Login codes: they carry a sign-in from a browser to the computer that has the key. A code is shown once,
// signed once and taken once, and ends after five minutes. The database holds neither the code nor anything
// to derive it from.

import {
  type Clock,
  type Documents,
  FormationError,
  LIMITS,
  type StoredDocument,
} from "@formation-mcp/contract";
import { readCode, type Secrets } from "./secrets.ts";

/** The account and the key that signed. */
export interface Signer {
  owner: string;
  key: string;
}

/** The authorization request that a code stands for. */
interface CodeSubject {
  uid: string;
  clientId: string;
  redirectUri: string;
  /** As requested, separated by spaces. */
  scope: string;
}

interface CodeDocument extends CodeSubject {
  salt: string;
  signed?: Signer;
}

export interface LoginCodes {
  /** The code of an interaction: the existing one if it has a minute left, else a new one. */
  open(subject: CodeSubject): Promise<string>;
  state(uid: string): Promise<"waiting" | "signed" | "expired">;
  /** @throws FormationError `not_found` if there is no such code, `conflict` if it is signed already. */
  read(code: string): Promise<CodeSubject & { expiresAt: number }>;
  /** @throws FormationError as {@link read} does; of two concurrent calls, one. */
  sign(code: string, by: Signer): Promise<void>;
  /** The signer of the code of an interaction, once; null if it is not signed. */
  take(uid: string): Promise<Signer | null>;
}

export interface LoginCodesDeps {
  documents: Documents;
  clock: Clock;
  random: (bytes: number) => Uint8Array;
  secrets: Secrets;
}

const KIND = "login-code";

/** Login codes, kept as documents. */
export function createLoginCodes(deps: LoginCodesDeps): LoginCodes {
  const { documents, clock, random, secrets } = deps;
  const ofInteraction = (uid: string) => documents.byAlias<CodeDocument>(KIND, uid);

  async function find(code: string): Promise<StoredDocument<CodeDocument>> {
    const read = readCode(code);
    const found = read && (await documents.get<CodeDocument>(KIND, secrets.codeId(read)));
    if (!found) {
      throw new FormationError("not_found", "There is no such code, or it has expired.", {
        remedy: "Compare it with the page, or reload the page for a new one.",
        field: "code",
      });
    }
    if (found.doc.signed) {
      throw new FormationError("conflict", "This code was signed before.", {
        remedy: "Go back to the page; it goes on by itself.",
        field: "code",
      });
    }
    return found;
  }

  return {
    async open(subject) {
      const before = await ofInteraction(subject.uid);
      if (before && !before.doc.signed && (before.expires_at ?? 0) - clock.now() > 60_000) {
        return secrets.code(subject.uid, before.doc.salt);
      }
      if (before) await documents.remove(KIND, before.id);
      const salt = Buffer.from(random(16)).toString("base64url");
      const code = secrets.code(subject.uid, salt);
      await documents.put<CodeDocument>({
        kind: KIND,
        id: secrets.codeId(code),
        alias: subject.uid,
        doc: { ...subject, salt },
        expires_at: clock.now() + LIMITS.challengeMs,
      });
      return code;
    },
    async state(uid) {
      const found = await ofInteraction(uid);
      return found ? (found.doc.signed ? "signed" : "waiting") : "expired";
    },
    async read(code) {
      const { doc, expires_at } = await find(code);
      const { uid, clientId, redirectUri, scope } = doc;
      return { uid, clientId, redirectUri, scope, expiresAt: expires_at ?? 0 };
    },
    async sign(code, by) {
      const found = await find(code);
      await documents.put({ ...found, owner: by.owner, doc: { ...found.doc, signed: by } }, found.version);
    },
    async take(uid) {
      const found = await ofInteraction(uid);
      if (!found?.doc.signed) return null;
      return (await documents.take<CodeDocument>(KIND, found.id))?.doc.signed ?? null;
    },
  };
}
