// Writes contexts as tar. The same files give the same bytes, at any time and on any machine.

import { FormationError } from "@formation-mcp/contract";
import { type Header, type Pack, pack } from "tar-stream";

export type ContextEntry =
  | { name: string; kind: "directory" }
  | { name: string; kind: "link"; target: string }
  | {
      name: string;
      kind: "file";
      bytes: number;
      executable: boolean;
      /** Must give exactly `bytes` bytes. */
      content: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
    };

/** Writes an archive of entries given in order: directories before their content. */
export async function* writeTar(
  entries: AsyncIterable<ContextEntry> | Iterable<ContextEntry>,
): AsyncIterable<Uint8Array> {
  const archive = pack();
  const filled = fill(archive, entries).catch((error: unknown) => archive.destroy(error as Error));
  try {
    yield* archive as AsyncIterable<Uint8Array>;
  } finally {
    archive.destroy(null);
    await filled;
  }
}

async function fill(
  archive: Pack,
  entries: AsyncIterable<ContextEntry> | Iterable<ContextEntry>,
): Promise<void> {
  for await (const entry of entries) {
    if (archive.destroyed) return;
    if (entry.kind === "directory") await add(archive, { name: entry.name, type: "directory", mode: 0o755 });
    else if (entry.kind === "link") {
      await add(archive, { name: entry.name, type: "symlink", linkname: entry.target, mode: 0o777 });
    } else {
      const mode = entry.executable ? 0o755 : 0o644;
      await add(archive, { name: entry.name, type: "file", size: entry.bytes, mode }, entry.content());
    }
  }
  archive.finalize();
}

async function add(
  archive: Pack,
  header: Pick<Header, "name" | "type" | "mode"> & Partial<Header>,
  content: AsyncIterable<Uint8Array> | Iterable<Uint8Array> = [],
): Promise<void> {
  let settle: (error?: Error | null) => void = () => {};
  const done = new Promise<void>((resolve, reject) => {
    settle = (error) => (error ? reject(error) : resolve());
  });
  const entry = archive.entry({ ...header, uid: 0, gid: 0, mtime: new Date(0) }, (error) => settle(error));
  entry.on("error", () => {});
  done.catch(() => {}); // if the content fails first, nothing awaits the entry
  if (header.type === "file") {
    for await (const chunk of content) {
      if (archive.destroyed) throw new FormationError("cancelled", "The archive is no longer wanted.");
      if (!entry.write(chunk)) await drained(entry);
    }
    entry.end(undefined);
  }
  await done;
}

/** Resolves when a stream accepts more data, or when it is closed. */
export function drained(stream: Pick<NodeJS.EventEmitter, "on" | "off">): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off("drain", done);
      stream.off("close", done);
      resolve();
    };
    stream.on("drain", done);
    stream.on("close", done);
  });
}
