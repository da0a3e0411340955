// Blobs in a bucket of the NATS object store, in the layout of its clients (NATS ADR-20): chunks under a
// random subject, and one message under the object's name that names the chunks. A blob exists if and only if
// that message exists. It also has the chunks' sequence numbers, so that a reader requests a few at a time
// and the server need not send them in order.

import { createHash } from "node:crypto";
import { type Clock, FormationError } from "@formation-mcp/contract";
import { nuid } from "@nats-io/transport-node";
import { digestOf, hexOf, isDigest } from "../directory/blobs.ts";
import type { BlobInfo, Digest } from "../port.ts";
import { type NatsStream, OVERTAKEN, type StoredMessage } from "./stream.ts";

export const BUCKET = "formation-blobs";
export const BLOB_SUBJECTS = [`$O.${BUCKET}.C.>`, `$O.${BUCKET}.M.>`];

const CHUNK_BYTES = 256 * 1024;
/** The maximum number of chunks in flight. With their size, it bounds a transfer's memory. */
const MAX_IN_FLIGHT = 4;
const MAX_CHUNKS = 1_000_000;
/** Chunks without a blob are removed after this time. Until then they may belong to a running upload. */
const ORPHAN_AGE_MS = 3_600_000;

/** The bucket's information about a blob. */
export interface BlobHead {
  /** The sequence number of the message with this information. */
  seq: number;
  digest: Digest;
  bytes: number;
  /** When it was put, by the putting process's clock. */
  putAt: number;
  group: string;
  chunks: number[];
}

/** The state of a digest at one moment. Malformed information counts as no blob. */
export interface BlobState {
  revision: number;
  head: BlobHead | null;
}

/** Thrown while reading if a chunk is missing. */
export const MISSING = new FormationError("internal", "A part of the stored content is missing.");

export class NatsBlobs {
  readonly #stream: NatsStream;
  readonly #clock: Clock;
  readonly #removes: boolean;

  /**
   * @param removes whether this process may remove stored data. What it leaves is removed later by a process
   *   that may.
   */
  constructor(stream: NatsStream, clock: Clock, removes: boolean) {
    this.#stream = stream;
    this.#clock = clock;
    this.#removes = removes;
  }

  async look(digest: Digest): Promise<BlobState> {
    const kept = await this.#stream.last(nameSubject(digest));
    return { revision: kept?.seq ?? 0, head: kept && readHead(kept, digest) };
  }

  async head(digest: Digest): Promise<BlobHead | null> {
    return (await this.look(digest)).head;
  }

  /**
   * The chunks as stored; the reader must verify them.
   * @throws `MISSING`
   */
  async *read(head: BlobHead): AsyncIterable<Uint8Array> {
    const coming: Promise<StoredMessage | null>[] = [];
    const ask = (index: number) => {
      const seq = head.chunks[index];
      if (seq === undefined) return;
      const chunk = this.#stream.at(seq);
      chunk.catch(() => {});
      coming.push(chunk);
    };
    for (let index = 0; index < MAX_IN_FLIGHT; index++) ask(index);
    for (let index = MAX_IN_FLIGHT; coming.length > 0; index++) {
      const chunk = await coming.shift();
      if (!chunk || chunk.subject !== chunkSubject(head.group)) throw MISSING;
      ask(index);
      yield chunk.data;
    }
  }

  /** Whether the stored bytes are the ones that were put. */
  async isWhole(head: BlobHead): Promise<boolean> {
    const hash = createHash("sha256");
    try {
      for await (const chunk of this.read(head)) hash.update(chunk);
    } catch (error) {
      if (error === MISSING) return false;
      throw error;
    }
    return digestOf(hash) === head.digest;
  }

  /**
   * Stores a blob in place of what was found under its name. Its bytes are trusted to match its digest.
   * Returns false if another process stored it first.
   */
  async upload(info: BlobInfo, content: AsyncIterable<Uint8Array>, found: BlobState): Promise<boolean> {
    const group = `${hexOf(info.digest)}-${nuid.next()}`;
    let useless: string | undefined = group;
    try {
      const chunks = await this.#send(group, content);
      const done = await this.#name({ ...info, group, chunks, putAt: this.#clock.now() }, found.revision);
      if (done) useless = found.head?.group;
      return done;
    } finally {
      if (useless !== undefined) await this.#tidy(chunkSubject(useless));
    }
  }

  /** Refreshes a blob's age. Returns whether it is still the one that was looked at. */
  async touch(head: BlobHead): Promise<boolean> {
    return await this.#name({ ...head, putAt: this.#clock.now() }, head.seq);
  }

  /** Removes a blob unless it was put again after it was looked at. Returns whether it did. */
  async remove(head: BlobHead): Promise<boolean> {
    const gone = await this.forget(head);
    const now = await this.head(head.digest);
    if (now?.group !== head.group) await this.#stream.purge(chunkSubject(head.group));
    return gone;
  }

  /** Marks a blob as deleted; its chunks stay for an hour. */
  async forget(head: BlobHead): Promise<boolean> {
    if (!this.#removes) return await this.#name(head, head.seq, true);
    return (await this.#stream.purge(nameSubject(head.digest), head.seq + 1)) > 0;
  }

  /** Removes a name that has had no blob for an hour. */
  async removeName(digest: Digest): Promise<void> {
    const kept = await this.#stream.last(nameSubject(digest));
    if (kept === null || readHead(kept, digest) || Date.now() - kept.at < ORPHAN_AGE_MS) return;
    await this.#stream.purge(nameSubject(digest), kept.seq + 1);
  }

  /** The digests of all blobs. */
  async digests(): Promise<Set<Digest>> {
    const subjects = await this.#stream.subjects(nameSubject("*"));
    const names = [...subjects.keys()].map((subject) => subject.slice(subject.lastIndexOf(".") + 1));
    return new Set(names.map((name) => Buffer.from(name, "base64url").toString()).filter(isDigest));
  }

  /** Removes chunks of abandoned uploads, names of deleted blobs, and old messages of names. */
  async removeOrphans(): Promise<void> {
    for (const [subject, count] of await this.#stream.subjects(nameSubject("*"))) {
      const last = count > 1 ? await this.#stream.last(subject) : null;
      if (last) await this.#stream.purge(subject, last.seq);
    }
    const named = await this.digests();
    const groups = [...(await this.#stream.subjects(chunkSubject("*"))).keys()].map((subject) =>
      subject.slice(subject.lastIndexOf(".") + 1),
    );
    const counts = new Map<Digest, number>();
    for (const group of groups) counts.set(ownerOf(group), (counts.get(ownerOf(group)) ?? 0) + 1);
    for (const group of groups) {
      const digest = ownerOf(group);
      if (named.has(digest)) {
        if (counts.get(digest) === 1) continue;
        const head = await this.head(digest);
        if (head === null || head.group === group) continue;
      }
      const newest = await this.#stream.last(chunkSubject(group));
      // Compares the server's clock with ours; they differ by less than an hour.
      if (newest && Date.now() - newest.at > ORPHAN_AGE_MS) await this.#stream.purge(chunkSubject(group));
    }
  }

  async #send(group: string, content: AsyncIterable<Uint8Array>): Promise<number[]> {
    const chunks: number[] = [];
    const sending = new Set<Promise<void>>();
    let failure: { error: unknown } | undefined;
    let index = 0;
    for await (const data of inChunks(content, Math.min(CHUNK_BYTES, this.#stream.maxBytes))) {
      const at = index++;
      const sent = this.#stream
        .publish(chunkSubject(group), data, `${group}.${at}`)
        .then((seq) => {
          chunks[at] = seq;
        })
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .finally(() => sending.delete(sent));
      sending.add(sent);
      if (sending.size >= MAX_IN_FLIGHT) await Promise.race(sending);
      if (failure) break;
    }
    await Promise.all(sending);
    if (failure) throw failure.error;
    return chunks;
  }

  /** @param deleted whether the message marks the blob as deleted. */
  async #name(head: Omit<BlobHead, "seq">, revision: number, deleted = false): Promise<boolean> {
    const subject = nameSubject(head.digest);
    try {
      const seq = await this.#stream.publish(subject, writeHead(head, deleted), nuid.next(), revision);
      if (revision > 0) await this.#tidy(subject, seq);
      return true;
    } catch (error) {
      if (error === OVERTAKEN) return false;
      throw error;
    }
  }

  /** Removes messages; a failure is ignored, because leaving them does no harm. */
  async #tidy(subject: string, before?: number): Promise<void> {
    if (this.#removes) await this.#stream.purge(subject, before).catch(() => {});
  }
}

function chunkSubject(group: string): string {
  return `$O.${BUCKET}.C.${group}`;
}

/** @param digest `*` for all. */
function nameSubject(digest: string): string {
  return `$O.${BUCKET}.M.${digest === "*" ? "*" : padded(Buffer.from(digest))}`;
}

/** base64url with padding, as the object store uses it. */
function padded(bytes: Buffer): string {
  return bytes.toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}

function ownerOf(group: string): Digest {
  return `sha256:${group.slice(0, 64)}`;
}

function writeHead(head: Omit<BlobHead, "seq">, deleted: boolean): Uint8Array {
  const info = {
    name: head.digest,
    bucket: BUCKET,
    nuid: head.group,
    size: head.bytes,
    chunks: head.chunks.length,
    mtime: new Date(head.putAt).toISOString(),
    digest: `SHA-256=${padded(Buffer.from(hexOf(head.digest), "hex"))}`,
    deleted,
    metadata: { chunks: writeNumbers(head.chunks) },
  };
  return Buffer.from(JSON.stringify(info));
}

/** Untrusted: any process with permission to write artifacts may have written it. */
function readHead(kept: StoredMessage, digest: Digest): BlobHead | null {
  try {
    const info = JSON.parse(Buffer.from(kept.data).toString("utf8")) as Record<string, unknown>;
    const { nuid: group, size, mtime, metadata } = info;
    const chunks = readNumbers(String((metadata as Record<string, unknown>)["chunks"]));
    if (info["name"] !== digest || info["deleted"] === true || chunks === null) return null;
    if (typeof group !== "string" || !/^[0-9a-f]{64}-[0-9A-Za-z]{1,40}$/.test(group)) return null;
    if (!Number.isSafeInteger(size) || (size as number) < 0 || ownerOf(group) !== digest) return null;
    // A reader allocates memory for the stated size.
    if ((size as number) > chunks.length * CHUNK_BYTES) return null;
    const putAt = Date.parse(String(mtime));
    return { seq: kept.seq, digest, bytes: size as number, putAt: putAt || 0, group, chunks };
  } catch {
    return null;
  }
}

/** Encodes ordered numbers as `7-12,15,14`. */
function writeNumbers(numbers: number[]): string {
  const runs: string[] = [];
  for (let at = 0; at < numbers.length; ) {
    const first = numbers[at] ?? 0;
    let last = first;
    for (at++; numbers[at] === last + 1; at++) last++;
    runs.push(first === last ? `${first}` : `${first}-${last}`);
  }
  return runs.join(",");
}

function readNumbers(text: string): number[] | null {
  if (text === "") return [];
  const numbers: number[] = [];
  for (const run of text.split(",")) {
    const [, first, last = first] = /^([1-9]\d{0,14})(?:-([1-9]\d{0,14}))?$/.exec(run) ?? [];
    if (first === undefined || numbers.length + Number(last) - Number(first) >= MAX_CHUNKS) return null;
    for (let number = Number(first); number <= Number(last); number++) numbers.push(number);
  }
  return numbers;
}

/** The same bytes in chunks of one size. */
async function* inChunks(content: AsyncIterable<Uint8Array>, size: number): AsyncIterable<Uint8Array> {
  let waiting: Uint8Array[] = [];
  let bytes = 0;
  for await (let data of content) {
    while (bytes + data.byteLength >= size) {
      const cut = size - bytes;
      yield waiting.length === 0 ? data.subarray(0, cut) : Buffer.concat([...waiting, data.subarray(0, cut)]);
      waiting = [];
      bytes = 0;
      data = data.subarray(cut);
    }
    if (data.byteLength === 0) continue;
    waiting.push(data);
    bytes += data.byteLength;
  }
  if (bytes > 0) yield Buffer.concat(waiting);
}
