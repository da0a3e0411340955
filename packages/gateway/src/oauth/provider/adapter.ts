// The storage adapter of oidc-provider: its models as documents of the store, so that several processes are
// one server and a restart loses nothing. This folder knows oidc-provider; nothing outside `oauth` depends on
// it.

import { createHash } from "node:crypto";
import { type Clock, type Documents, FormationError } from "@formation-mcp/contract";
import { type Adapter, type AdapterFactory, type AdapterPayload, errors } from "oidc-provider";

export interface AdapterDeps {
  documents: Documents;
  clock: Clock;
  /** Clients that exist without a registration. */
  knownClient: (id: string) => Promise<AdapterPayload | undefined>;
  /** Called when a grant is ended before it expires. */
  grantEnded: (owner: string, grantId: string) => Promise<unknown>;
}

const DAY_MS = 86_400_000;
/**
 * A registered client that never gets a token is deleted after a day; one that does, a year after the last
 * token.
 */
const UNUSED_CLIENT_MS = DAY_MS;
const USED_CLIENT_MS = 365 * DAY_MS;

/** Models whose id is a secret that a client holds. (Ids in cookies are signed.) */
const SECRET_IDS: ReadonlySet<string> = new Set(["AuthorizationCode", "RefreshToken"]);

const kindOf = (model: string): string => `oidc:${model}`;

export function createAdapter(deps: AdapterDeps): AdapterFactory {
  return (model) => new DocumentAdapter(model, deps);
}

/** Keeps a client registered for a year from now. */
export async function keepClient(deps: Pick<AdapterDeps, "documents" | "clock">, id: string): Promise<void> {
  const { documents, clock } = deps;
  const found = await documents.get<AdapterPayload>(kindOf("Client"), id);
  const until = clock.now() + USED_CLIENT_MS;
  // Once a month is enough; a write for every token is not needed.
  if (found?.expires_at == null || until - found.expires_at < 30 * DAY_MS) return;
  await documents.put({ ...found, expires_at: until }, found.version).catch(ignoreConflict);
}

class DocumentAdapter implements Adapter {
  readonly #model: string;
  readonly #kind: string;
  readonly #deps: AdapterDeps;

  constructor(model: string, deps: AdapterDeps) {
    this.#model = model;
    this.#kind = kindOf(model);
    this.#deps = deps;
  }

  async upsert(id: string, payload: AdapterPayload, expiresIn?: number): Promise<void> {
    const { documents, clock } = this.#deps;
    const alias = this.#model === "Session" ? payload.uid : payload.userCode;
    const keptMs =
      expiresIn === undefined ? (this.#model === "Client" ? UNUSED_CLIENT_MS : null) : expiresIn * 1000;
    const { jti, ...secretless } = payload;
    const document = {
      kind: this.#kind,
      id: this.#documentId(id),
      owner: payload.accountId ?? payload.session?.accountId ?? null,
      group: payload.grantId ?? (this.#model === "Grant" ? id : null),
      alias: alias ?? null,
      doc: SECRET_IDS.has(this.#model) ? secretless : payload,
      expires_at: keptMs === null ? null : Math.ceil(clock.now() + keptMs),
    };
    try {
      // Version 0: only the first write of an assertion's id succeeds.
      await documents.put(document, this.#model === "ReplayDetection" ? 0 : undefined);
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (this.#model === "ReplayDetection") {
        throw new errors.InvalidClientAuth("client assertion tokens must only be used once");
      }
      if (alias == null) throw error;
      // A session that changes its id keeps its uid: the new document replaces the old one.
      const older = await documents.byAlias(this.#kind, alias);
      if (older) await documents.remove(this.#kind, older.id);
      await documents.put(document);
    }
  }

  async find(id: string): Promise<AdapterPayload | undefined> {
    if (this.#model === "Client") {
      const known = await this.#deps.knownClient(id);
      if (known) return known;
    }
    const found = await this.#deps.documents.get<AdapterPayload>(this.#kind, this.#documentId(id));
    return found && SECRET_IDS.has(this.#model) ? { ...found.doc, jti: id } : found?.doc;
  }

  async findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return (await this.#deps.documents.byAlias<AdapterPayload>(this.#kind, uid))?.doc;
  }

  findByUserCode(userCode: string): Promise<AdapterPayload | undefined> {
    return this.findByUid(userCode);
  }

  /**
   * Marks a code or a refresh token as used. Of two concurrent uses the second is a replay, which ends the
   * grant.
   * @throws errors.InvalidGrant
   */
  async consume(id: string): Promise<void> {
    const { documents, clock } = this.#deps;
    const found = await documents.get<AdapterPayload>(this.#kind, this.#documentId(id));
    if (!found) throw new errors.InvalidGrant("already used");
    if (found.doc.consumed === undefined) {
      try {
        const consumed = { ...found.doc, consumed: Math.floor(clock.now() / 1000) };
        await documents.put({ ...found, doc: consumed }, found.version);
        return;
      } catch (error) {
        if (!isConflict(error)) throw error;
      }
    }
    if (found.group !== null) await this.revokeByGrantId(found.group);
    throw new errors.InvalidGrant("already used");
  }

  async destroy(id: string): Promise<void> {
    const removed = await this.#deps.documents.remove(this.#kind, this.#documentId(id));
    // An authorization request continues once, even if its form is sent twice at the same time.
    if (!removed && this.#model === "Interaction") throw new errors.SessionNotFound("already answered");
  }

  async revokeByGrantId(grantId: string): Promise<void> {
    const { documents, grantEnded } = this.#deps;
    const { owner } = (await documents.get(kindOf("Grant"), grantId)) ?? {};
    if (owner) await grantEnded(owner, grantId);
    await documents.removeAll({ group: grantId });
  }

  /** The document's id: the digest of a secret id, so that the database holds nothing that can be used. */
  #documentId(id: string): string {
    return SECRET_IDS.has(this.#model) ? createHash("sha256").update(id).digest("base64url") : id;
  }
}

function isConflict(error: unknown): boolean {
  return error instanceof FormationError && error.code === "conflict";
}

function ignoreConflict(error: unknown): void {
  if (!isConflict(error)) throw error;
}
