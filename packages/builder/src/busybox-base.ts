// The one base that a node makes itself: a root file system of only busybox-static, so that builds work
// without a registry. It is made once per busybox binary.

import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { runChecked } from "@formation-mcp/os";
import { OWN_IMAGE_NAME } from "./image/reference.ts";
import type { ImageStore, IndexedImage } from "./image-store.ts";

/** Part of the image's name. Raise it when the recipe below changes. */
const RECIPE_VERSION = "2";
const FILES: Record<string, string> = {
  "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
  "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
  "etc/shells": "/bin/sh\n",
};
const DIRECTORIES: Record<string, number> = {
  bin: 0o755,
  dev: 0o755,
  etc: 0o755,
  home: 0o755,
  proc: 0o755,
  root: 0o700,
  run: 0o755,
  sbin: 0o755,
  sys: 0o755,
  tmp: 0o1777,
  "usr/bin": 0o755,
  "usr/sbin": 0o755,
  "var/log": 0o755,
  "var/tmp": 0o1777,
};
const CONTAINERFILE = [
  "FROM scratch",
  'ADD ["rootfs.tar", "/"]',
  'ENV PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"',
  'CMD ["/bin/sh"]\n',
].join("\n");

const making = new WeakMap<ImageStore, Promise<IndexedImage>>();

/**
 * Returns the busybox base; makes it if the store has none for this binary.
 * @throws FormationError `unavailable` if there is no static busybox.
 */
export async function ensureBusybox(store: ImageStore, signal: AbortSignal): Promise<IndexedImage> {
  const binary = readBinary(store.settings.tools.busybox);
  const hash = createHash("sha256").update(RECIPE_VERSION).update(binary).digest("hex").slice(0, 16);
  const name = `${OWN_IMAGE_NAME}/busybox:${hash}`;
  const there = store.byName(name);
  if (there) return there;
  let work = making.get(store);
  if (!work) {
    // All builds that wait share this work, so none of them may cancel it. It has its own time limit.
    work = make(store, name).finally(() => making.delete(store));
    making.set(store, work);
    work.catch(() => {});
  }
  return await untilAborted(work, signal);
}

async function make(store: ImageStore, name: string): Promise<IndexedImage> {
  const directory = mkdtempSync(join(store.settings.places.builds, "busybox-"));
  try {
    const rootfs = join(directory, "rootfs");
    for (const [path, mode] of Object.entries(DIRECTORIES)) {
      mkdirSync(join(rootfs, path), { recursive: true });
      chmodSync(join(rootfs, path), mode);
    }
    for (const [path, text] of Object.entries(FILES))
      writeFileSync(join(rootfs, path), text, { mode: 0o644 });
    const busybox = join(rootfs, "bin/busybox");
    copyFileSync(store.settings.tools.busybox, busybox);
    chmodSync(busybox, 0o755);
    const limits = { timeoutMs: 60_000 };
    const applets = (await runChecked(store.settings.tools.busybox, ["--list-full"], limits)).stdout.split(
      "\n",
    );
    for (const applet of applets) {
      if (!/^[a-z0-9/_.[-]+$/.test(applet) || applet === "bin/busybox") continue;
      // Links each applet where other systems have it and also in /bin, where the usual busybox image has all
      // of them.
      for (const path of new Set([applet, `bin/${basename(applet)}`])) {
        mkdirSync(dirname(join(rootfs, path)), { recursive: true });
        symlinkSync("/bin/busybox", join(rootfs, path));
      }
    }
    const owner = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "--mtime=@0"];
    const archive = join(directory, "rootfs.tar");
    await runChecked("tar", ["-C", rootfs, ...owner, "-cf", archive, "."], limits);
    rmSync(rootfs, { recursive: true });
    writeFileSync(join(directory, "Containerfile"), CONTAINERFILE);
    await store.runChecked(
      [
        ...[
          "build",
          ...store.isolation(),
          "--network",
          "none",
          "--pull=never",
          "--timestamp",
          "0",
          "-t",
          name,
        ],
        ...[...store.policy(), "-f", join(directory, "Containerfile"), directory],
      ],
      { ...limits, env: store.environment(directory) },
    );
    const image = store.byName(name);
    if (image) return image;
    throw new FormationError("internal", "The busybox base was made but is not in the store.");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function readBinary(path: string): Buffer {
  const remedy =
    "Install busybox-static on the node (Debian: apt-get install busybox-static), or name another base.";
  let binary: Buffer;
  try {
    binary = readFileSync(path);
  } catch (cause) {
    throw new FormationError("unavailable", "This node cannot make the busybox base: it has no busybox.", {
      step: "pull",
      remedy,
      cause,
    });
  }
  if (isStatic(binary)) return binary;
  throw new FormationError(
    "unavailable",
    "This node cannot make the busybox base: its busybox is not static.",
    {
      step: "pull",
      remedy,
    },
  );
}

/** Whether a 64-bit ELF program is static: it has no PT_INTERP header (elf(5)). */
function isStatic(binary: Buffer): boolean {
  if (binary.length < 64 || binary.readUInt32BE(0) !== 0x7f454c46 || binary[4] !== 2) return false;
  const offset = Number(binary.readBigUInt64LE(32));
  const size = binary.readUInt16LE(54);
  const count = binary.readUInt16LE(56);
  for (let i = 0; i < count && offset + i * size + 4 <= binary.length; i++) {
    if (binary.readUInt32LE(offset + i * size) === 3) return false;
  }
  return true;
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new FormationError("cancelled", "The build was cancelled."));
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
