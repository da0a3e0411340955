// Where the OAuth server's state lives: the documents of the one database, so that several processes are one server and a
// restart forgets nothing. The secret is how a model becomes a document, and what "used once" means between processes.

import { createHash } from "node:crypto";
import { type Clock, type Documents, FormationError } from "@formation-mcp/contract";
import { type Adapter, type AdapterFactory, type AdapterPayload, errors } from "oidc-provider";

export interface AdapterOptions {
  documents: Documents;
  clock: Clock;
  /** Clients that are not registered but follow from who they are. */
  knownClient: (id: string) => Promise<AdapterPayload | undefined>;
  /** Told when a grant was ended before its time. */
  grantEnded: (owner: string, grantId: string) => Promise<unknown>;
}

const DAY_MS = 86_400_000;
/** A client that registered and never came back is forgotten; one that got a token is kept for a year after it. */
const UNUSED_CLIENT_MS = DAY_MS;
const USED_CLIENT_MS = 365 * DAY_MS;

/** Models whose name is a secret that a client holds. Cookies need no such care: they are signed. */
const SECRET_IDS: ReadonlySet<string> = new Set(["AuthorizationCode", "RefreshToken"]);

const kindOf = (model: string): string => `oidc:${model}`;

export function createAdapter(options: AdapterOptions): AdapterFactory {
  return (model) => new DocumentAdapter(model, options);
}

/** A client that got a token stays registered for a year. */
export async function keepClient(
  options: Pick<AdapterOptions, "documents" | "clock">,
  id: string,
): Promise<void> {
  const { documents, clock } = options;
  const found = await documents.get<AdapterPayload>(kindOf("Client"), id);
  const until = clock.now() + USED_CLIENT_MS;
  // Once a month is often enough: a write at every token would be for nothing.
  if (found?.expires_at == null || until - found.expires_at < 30 * DAY_MS) return;
  await documents.put({ ...found, expires_at: until }, found.version).catch(ignoreConflict);
}

class DocumentAdapter implements Adapter {
  readonly #model: string;
  readonly #kind: string;
  readonly #options: AdapterOptions;

  constructor(model: string, options: AdapterOptions) {
    this.#model = model;
    this.#kind = kindOf(model);
    this.#options = options;
  }

  async upsert(id: string, payload: AdapterPayload, expiresIn?: number): Promise<void> {
    const { documents, clock } = this.#options;
    const alias = this.#model === "Session" ? payload.uid : payload.userCode;
    const keptMs =
      expiresIn === undefined ? (this.#model === "Client" ? UNUSED_CLIENT_MS : null) : expiresIn * 1000;
    const { jti, ...secretless } = payload;
    const document = {
      kind: this.#kind,
      id: this.#nameOf(id),
      owner: payload.accountId ?? payload.session?.accountId ?? null,
      group: payload.grantId ?? (this.#model === "Grant" ? id : null),
      alias: alias ?? null,
      doc: SECRET_IDS.has(this.#model) ? secretless : payload,
      expires_at: keptMs === null ? null : Math.ceil(clock.now() + keptMs),
    };
    try {
      // An assertion's id is written by whoever is first.
      await documents.put(document, this.#model === "ReplayDetection" ? 0 : undefined);
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (this.#model === "ReplayDetection") {
        throw new errors.InvalidClientAuth("client assertion tokens must only be used once");
      }
      if (alias == null) throw error;
      // A session that changes its identifier keeps its uid: the older document gives way.
      const older = await documents.byAlias(this.#kind, alias);
      if (older) await documents.remove(this.#kind, older.id);
      await documents.put(document);
    }
  }

  async find(id: string): Promise<AdapterPayload | undefined> {
    if (this.#model === "Client") {
      const known = await this.#options.knownClient(id);
      if (known) return known;
    }
    const found = await this.#options.documents.get<AdapterPayload>(this.#kind, this.#nameOf(id));
    return found && SECRET_IDS.has(this.#model) ? { ...found.doc, jti: id } : found?.doc;
  }

  async findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return (await this.#options.documents.byAlias<AdapterPayload>(this.#kind, uid))?.doc;
  }

  findByUserCode(userCode: string): Promise<AdapterPayload | undefined> {
    return this.findByUid(userCode);
  }

  /** Marks a code or a refresh token as used. Of two that try at once, the second is a replay, which ends the grant. */
  async consume(id: string): Promise<void> {
    const { documents, clock } = this.#options;
    const found = await documents.get<AdapterPayload>(this.#kind, this.#nameOf(id));
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
    const removed = await this.#options.documents.remove(this.#kind, this.#nameOf(id));
    // An authorization request goes on once, even if its form was sent twice at the same moment.
    if (!removed && this.#model === "Interaction") throw new errors.SessionNotFound("already answered");
  }

  async revokeByGrantId(grantId: string): Promise<void> {
    const { documents, grantEnded } = this.#options;
    const { owner } = (await documents.get(kindOf("Grant"), grantId)) ?? {};
    if (owner) await grantEnded(owner, grantId);
    await documents.removeAll({ group: grantId });
  }

  /** Whoever reads the database can't use what a client holds: there is only its digest. */
  #nameOf(id: string): string {
    return SECRET_IDS.has(this.#model) ? createHash("sha256").update(id).digest("base64url") : id;
  }
}

function isConflict(error: unknown): boolean {
  return error instanceof FormationError && error.code === "conflict";
}

function ignoreConflict(error: unknown): void {
  if (!isConflict(error)) throw error;
}
