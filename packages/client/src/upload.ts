// Uploads a build's context, from memory or as a stream. A stream cannot be read twice, so it is never sent
// again.

import { FormationError } from "@formation-mcp/contract";
import type { AuthorizedWire } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";

/** A tar or tar.gz. */
export type Content = Uint8Array | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** An uploaded context, for `pack_build`. */
export interface UploadedContext {
  context_id: string;
  /** The size of its files together. */
  bytes: number;
  files: number;
}

const UPLOAD_TIMEOUT_MS = 60 * 60_000;

export async function upload(
  wire: AuthorizedWire,
  content: Content,
  signal: AbortSignal | undefined,
): Promise<UploadedContext> {
  const isRepeatable = content instanceof Uint8Array || content instanceof Blob;
  const sourceErrors: unknown[] = [];
  const body = isRepeatable || content instanceof ReadableStream ? content : streamOf(content, sourceErrors);
  const response = await wire
    .send({
      method: "PUT",
      path: "/api/contexts",
      body: body as NonNullable<RequestInit["body"]>,
      headers: { "content-type": "application/x-tar", ...(await digestOf(content)) },
      repeatable: isRepeatable,
      timeoutMs: UPLOAD_TIMEOUT_MS,
      signal,
    })
    .catch((error: unknown) => {
      // The error of the source explains the broken connection.
      throw sourceErrors.length > 0 ? FormationError.from(sourceErrors[0]) : error;
    });
  const { context_id, bytes, files } = isObject(response) ? response : {};
  if (typeof context_id === "string") return { context_id, bytes: Number(bytes), files: Number(files) };
  throw new FormationError("unavailable", `${wire.url} did not say how it calls the uploaded context.`);
}

/** The digest of bytes in memory (RFC 9530), so that the server detects damage on the way. */
async function digestOf(content: Content): Promise<Record<string, string>> {
  if (!(content instanceof Uint8Array) || !globalThis.crypto?.subtle) return {};
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", Uint8Array.from(content)));
  return { "content-digest": `sha-256=:${btoa(String.fromCharCode(...digest))}:` };
}

function streamOf(parts: AsyncIterable<Uint8Array>, sourceErrors: unknown[]): ReadableStream<Uint8Array> {
  const iterator = parts[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        sourceErrors.push(error);
        controller.error(error);
      }
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}
