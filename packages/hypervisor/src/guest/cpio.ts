// Writing a cpio archive that the Linux kernel unpacks as its initramfs, in the format "newc". See
// Documentation/driver-api/early-userspace/buffer-format in the kernel's sources.

/** A member of the archive. A directory comes before what is in it. */
export interface CpioEntry {
  /** Relative, no leading slash. */
  path: string;
  /** Permission bits. */
  mode: number;
  /** A file's content; a directory has none. */
  data?: Uint8Array;
  /** The target of a symbolic link. */
  link?: string;
}

const DIRECTORY = 0o040000;
const FILE = 0o100000;
const LINK = 0o120000;
const PAD = Buffer.alloc(512);

/** The archive. Its length is a multiple of 512, so that another archive can be appended to it. */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  let length = 0;
  const push = (bytes: Uint8Array) => {
    parts.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    length += bytes.byteLength;
  };
  const pad = (to: number) => push(PAD.subarray(0, (to - (length % to)) % to));
  const member = (path: string, mode: number, inode: number, data: Uint8Array) => {
    const name = Buffer.from(`${path}\0`);
    const fields = [inode, mode, 0, 0, 1, 0, data.byteLength, 0, 0, 0, 0, name.byteLength, 0];
    push(Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, "0")).join("")}`));
    push(name);
    pad(4);
    push(data);
    pad(4);
  };
  entries.forEach((entry, at) => {
    const data = entry.link === undefined ? entry.data : Buffer.from(entry.link);
    const kind = entry.link !== undefined ? LINK : data === undefined ? DIRECTORY : FILE;
    member(entry.path, kind | entry.mode, at + 1, data ?? new Uint8Array());
  });
  member("TRAILER!!!", 0, 0, new Uint8Array());
  pad(512);
  return Buffer.concat(parts);
}
