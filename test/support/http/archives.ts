// Context archives that tests send over HTTP, gzipped.

import { gzipSync } from "node:zlib";
import { type RawEntry, rawTar, tarHeader } from "@formation-mcp/artifacts/testing/raw-tar";

export function tarGz(entries: readonly RawEntry[]): Buffer {
  return gzipSync(rawTar(entries));
}

/** A small archive that unpacks to this many MiB of zeros: concatenated gzip members are one stream. */
export function bomb(mebibytes: number): Buffer {
  const head = gzipSync(tarHeader({ name: "zeros" }, mebibytes * 1024 * 1024));
  const zeros = gzipSync(Buffer.alloc(1024 * 1024), { level: 9 });
  return Buffer.concat([
    head,
    ...Array.from({ length: mebibytes }, () => zeros),
    gzipSync(Buffer.alloc(1024)),
  ]);
}
