// Uploads of build contexts. A context comes as one archive in the body. It is checked and repacked while it
// streams in, and never held in memory as a whole. An upload that is refused or breaks off leaves nothing.

import type { Digest } from "@formation-mcp/artifacts";
import { repackContext } from "@formation-mcp/artifacts/context";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import { z } from "zod";
import type { GatewayDeps } from "../http/deps.ts";
import { BODY_FIELD } from "../http/error-response.ts";
import { iso } from "./account-views.ts";
import { createConcurrencyLimit } from "./concurrency-limit.ts";
import { tooLarge } from "./request-body.ts";
import { type Route, route } from "./route.ts";

/** The kind of the documents of uploaded contexts; control looks for it. */
const KIND = "context";
const UPLOAD_TIMEOUT_MS = 60 * 60_000;
/** Uploads that one owner may have under way in this process: each holds a connection and a file. */
const MAX_UPLOADS_PER_OWNER = 4;

/** What one owner may upload per day (UTC); each upload counts as at least 1 MiB. */
const MAX_MIB_PER_DAY = 16_384;
const DAY_MS = 86_400_000;
const MiB = 1024 * 1024;

const takeSlot = createConcurrencyLimit(MAX_UPLOADS_PER_OWNER, {
  message: `${MAX_UPLOADS_PER_OWNER} uploads are under way already.`,
  remedy: "Wait until one of them has ended.",
});

export const CONTEXT_ROUTES: readonly Route[] = [
  route({
    method: "PUT",
    path: "/api/contexts",
    access: "pack:write",
    tag: "contexts",
    id: "uploadContext",
    summary: "Upload a build's files",
    description:
      "The body is a tar or tar.gz, told by its first bytes, of at most 512 MiB, sent and unpacked. Then call pack_build with context_id. What no build names is kept for a day.",
    query: z.object({
      digest: z
        .string()
        .max(200)
        .optional()
        .describe("`sha256:` and 64 hexadecimal digits of the bytes sent"),
    }),
    body: "bytes",
    data: z.object({
      context_id: z.string(),
      digest: z.string().describe("Of the archive as it is kept"),
      bytes: z.int().describe("What its files hold together"),
      files: z.int(),
      expires_at: z.string(),
    }),
    errors: [400, 413],
    async handle({ deps, c, caller, query, note }) {
      const { owner } = caller.principal;
      const expected = expectedDigest(c.req.raw.headers, query.digest);
      if (Number(c.req.header("content-length") ?? 0) > LIMITS.contextBytes)
        throw tooLarge(LIMITS.contextBytes);
      const release = takeSlot(owner);
      try {
        await spendUploads(deps, owner, 1);
        const signals = [c.req.raw.signal, AbortSignal.timeout(UPLOAD_TIMEOUT_MS)];
        if (deps.closing) signals.push(deps.closing);
        const signal = AbortSignal.any(signals);
        const context = repackContext(bodyOf(c.req.raw), {
          maxBytes: LIMITS.contextBytes,
          maxFiles: LIMITS.contextFiles,
          maxSentBytes: LIMITS.contextBytes,
          signal,
          ...(expected === undefined ? {} : { expected }),
        });
        const { digest, bytes: kept } = await deps.artifacts
          .put(context.stream, { maxBytes: 2 * LIMITS.contextBytes, signal })
          .catch(rethrowAsBodyError);
        const { bytes, files } = context.summary();
        await spendUploads(deps, owner, Math.floor(kept / MiB));
        const context_id = `ctx_${Buffer.from(deps.random(16)).toString("hex")}`;
        const expires_at = deps.clock.now() + LIMITS.uploadedContextKeptMs;
        const doc = { bytes, files };
        await deps.documents.put({ kind: KIND, id: context_id, owner, artifact: digest, doc, expires_at }, 0);
        note.target = context_id;
        return { data: { context_id, digest, bytes, files, expires_at: iso(expires_at) } };
      } finally {
        release();
      }
    },
  }),
];

/** A `limit` of a context is a body that is too large (413): to send it again later does not help. */
function rethrowAsBodyError(thrown: unknown): never {
  if (!(thrown instanceof FormationError) || thrown.code !== "limit") throw thrown;
  throw new FormationError("limit", thrown.message, { ...thrown.details, field: BODY_FIELD, cause: thrown });
}

async function* bodyOf(request: Request): AsyncIterable<Uint8Array> {
  if (request.body) yield* request.body;
}

/**
 * Counts an owner's uploads in all server processes, because artifacts stay on disk until the sweep.
 * @param amount in MiB.
 * @throws FormationError `limit`
 */
async function spendUploads(
  { counters }: Pick<GatewayDeps, "counters">,
  owner: string,
  amount: number,
): Promise<void> {
  if (amount === 0) return;
  const request = { key: `upload:${owner}`, limit: MAX_MIB_PER_DAY, windowMs: DAY_MS, amount };
  if ((await counters.spend(request)).granted === amount) return;
  throw new FormationError("limit", `More than ${MAX_MIB_PER_DAY} MiB were uploaded today.`, {
    remedy: "Use the contexts that are uploaded, or go on tomorrow.",
  });
}

/**
 * The digest that the client states: `?digest=`, Content-Digest (RFC 9530 §2) or the older Digest (RFC 3230).
 * Algorithms other than SHA-256 are ignored, as the RFC requires.
 * @throws FormationError `invalid` for a malformed digest, or for two that differ.
 */
function expectedDigest(headers: Headers, given: string | undefined): Digest | undefined {
  const stated = new Set<Digest>();
  if (given !== undefined) {
    if (!/^sha256:[0-9a-f]{64}$/.test(given)) throw noDigest("digest", "`sha256:` and 64 hexadecimal digits");
    stated.add(given as Digest);
  }
  const content = /(?:^|,)\s*sha-256\s*=\s*:?([^:,]*):?/i.exec(headers.get("content-digest") ?? "")?.[1];
  if (content !== undefined) stated.add(fromBase64("content-digest", content));
  const older = /(?:^|,)\s*sha-256\s*=\s*([^,]*)/i.exec(headers.get("digest") ?? "")?.[1];
  if (older !== undefined) stated.add(fromBase64("digest", older));
  const [only] = stated;
  if (stated.size > 1) {
    throw new FormationError("invalid", "Two digests are given, and they differ.", { field: "digest" });
  }
  return only;
}

function fromBase64(field: string, text: string): Digest {
  const bytes = /^[A-Za-z0-9+/]{43}=?$/.test(text.trim()) ? Buffer.from(text.trim(), "base64") : null;
  if (bytes?.length !== 32) throw noDigest(field, "sha-256=:<base64>:");
  return `sha256:${bytes.toString("hex")}`;
}

function noDigest(field: string, how: string): FormationError {
  return new FormationError("invalid", `${field} is no digest.`, { field, remedy: `Write it as ${how}.` });
}
