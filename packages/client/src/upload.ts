// Sending a build's files, whole or as they are read. What can't be read twice is sent once.

import { FormationError } from "@formation-mcp/contract";
import type { Asker } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";

/** A tar or tar.gz. */
export type Content = Uint8Array | Blob | ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;

/** An uploaded context, for `pack_build`. */
export interface UploadedContext {
  context_id: string;
  /** What its files hold together. */
  bytes: number;
  files: number;
}

const UPLOAD_MS = 60 * 60_000;

export async function upload(
  asker: Asker,
  content: Content,
  signal: AbortSignal | undefined,
): Promise<UploadedContext> {
  const whole = content instanceof Uint8Array || content instanceof Blob;
  const broken: unknown[] = [];
  const body = whole || content instanceof ReadableStream ? content : streamOf(content, broken);
  const said = await asker
    .send({
      method: "PUT",
      path: "/api/contexts",
      body: body as NonNullable<RequestInit["body"]>,
      headers: { "content-type": "application/x-tar", ...(await digestOf(content)) },
      repeatable: whole,
      timeoutMs: UPLOAD_MS,
      signal,
    })
    .catch((error: unknown) => {
      // Why the source ended says more than that the connection did.
      throw broken.length > 0 ? FormationError.from(broken[0]) : error;
    });
  const { context_id, bytes, files } = isObject(said) ? said : {};
  if (typeof context_id === "string") return { context_id, bytes: Number(bytes), files: Number(files) };
  throw new FormationError("unavailable", `${asker.url} did not say how it calls the uploaded context.`);
}

/** Bytes that are there whole say what they are (RFC 9530), so that nothing is stored that broke on the way. */
async function digestOf(content: Content): Promise<Record<string, string>> {
  if (!(content instanceof Uint8Array) || !globalThis.crypto?.subtle) return {};
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", Uint8Array.from(content)));
  return { "content-digest": `sha-256=:${btoa(String.fromCharCode(...digest))}:` };
}

function streamOf(parts: AsyncIterable<Uint8Array>, broken: unknown[]): ReadableStream<Uint8Array> {
  const iterator = parts[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        broken.push(error);
        controller.error(error);
      }
    },
    async cancel() {
      await iterator.return?.();
    },
  });
}
