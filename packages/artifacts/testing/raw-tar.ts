// Writes tar archives block by block, so that tests can make archives that no packer makes, and reads them
// with tar(1).

import { execFileSync } from "node:child_process";

export interface RawEntry {
  name: string;
  /**
   * The type flag of POSIX ustar: "0" file, "1" hard link, "2" symbolic link, "5" directory, "x" extended
   * header …
   */
  type?: string;
  body?: string | Uint8Array;
  link?: string;
  mode?: number;
  /** The size in the header, if it is not the body's length. */
  size?: number;
}

/** One header block; `bytes` is the size that it states. */
export function tarHeader(entry: RawEntry, bytes: number): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, length: number) => `${value.toString(8).padStart(length - 1, "0")}\0`;
  block.write(entry.name, 0, 100);
  block.write(octal(entry.mode ?? 0o644, 8), 100);
  block.write(octal(0, 8), 108);
  block.write(octal(0, 8), 116);
  block.write(octal(bytes, 12), 124);
  block.write(octal(0, 12), 136);
  block.write("        ", 148);
  block.write(entry.type ?? "0", 156);
  block.write(entry.link ?? "", 157, 100);
  block.write("ustar\0" + "00", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

/** An archive of exactly these entries, without its end mark if `end` is false. */
export function rawTar(entries: readonly RawEntry[], end = true): Buffer {
  const parts = entries.flatMap((entry) => {
    const body = Buffer.from(entry.body ?? "");
    const padding = Buffer.alloc((512 - (body.length % 512)) % 512);
    return [tarHeader(entry, entry.size ?? body.length), body, padding];
  });
  return Buffer.concat([...parts, Buffer.alloc(end ? 1024 : 0)]);
}

/** An extended header (pax) with these records. */
export function pax(records: Record<string, string>, type = "x"): RawEntry {
  const body = Object.entries(records).map(([key, value]) => {
    const rest = Buffer.byteLength(` ${key}=${value}\n`);
    let length = rest + String(rest).length;
    if (rest + String(length).length !== length) length = rest + String(length).length;
    return `${length} ${key}=${value}\n`;
  });
  return { name: "pax", type, body: body.join("") };
}

export async function* chunks(bytes: Uint8Array, size = 4096): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export async function gather(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

/** The names in an archive, directories with a slash, as tar(1) sees them. */
export function namesIn(archive: Buffer): string[] {
  const listing = execFileSync("tar", ["--list", "--verbose", "--quoting-style=literal", "--file=-"], {
    input: archive,
    env: { LC_ALL: "C.UTF-8", TZ: "UTC", PATH: process.env["PATH"] ?? "" },
  });
  return listing
    .toString()
    .split("\n")
    .filter(Boolean)
    .map((line) => {
      const name = line.replace(/^(\S+\s+){5}/, "");
      return line.startsWith("d") ? `${name}/` : name;
    });
}
