// Context archives written by hand, block by block, so that they can say what no honest packer says.

import { gzipSync } from "node:zlib";

export interface Entry {
  name: string;
  /** The type flag of POSIX ustar: "0" file, "1" hard link, "2" symbolic link, "5" directory, "x" extended header … */
  type?: string;
  body?: string | Uint8Array;
  link?: string;
  mode?: number;
  /** What the header says, if not the body's length. */
  size?: number;
}

/** An archive of these entries, as they are; without its end marker if `end` is false. */
export function tar(entries: readonly Entry[], end = true): Buffer {
  const parts = entries.flatMap((entry) => {
    const body = Buffer.from(entry.body ?? "");
    return [block(entry, entry.size ?? body.length), body, Buffer.alloc((512 - (body.length % 512)) % 512)];
  });
  return Buffer.concat([...parts, Buffer.alloc(end ? 1024 : 0)]);
}

export function tarGz(entries: readonly Entry[]): Buffer {
  return gzipSync(tar(entries));
}

/** An extended header (pax) with one record. */
export function pax(key: string, value: string, type = "x"): Entry {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let length = rest + String(rest).length;
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return { name: "pax", type, body: `${length} ${key}=${value}\n` };
}

/** An archive of few bytes that unpacks to so many MiB of zeros: gzip members one after the other are one stream. */
export function bomb(mebibytes: number): Buffer {
  const head = gzipSync(block({ name: "zeros" }, mebibytes * 1024 * 1024));
  const zeros = gzipSync(Buffer.alloc(1024 * 1024), { level: 9 });
  return Buffer.concat([
    head,
    ...Array.from({ length: mebibytes }, () => zeros),
    gzipSync(Buffer.alloc(1024)),
  ]);
}

function block(entry: Entry, bytes: number): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, "0")}\0`;
  header.write(entry.name, 0, 100);
  header.write(octal(entry.mode ?? 0o644, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(bytes, 12), 124);
  header.write(octal(0, 12), 136);
  header.write("        ", 148);
  header.write(entry.type ?? "0", 156);
  header.write(entry.link ?? "", 157, 100);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}
