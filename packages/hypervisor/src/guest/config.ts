// This folder knows what a guest is booted with: its kernel, the initramfs with our init, and how it reports
// back. This file makes the machine's own part of the initramfs: two shell files in a cpio archive. Every
// value is single-quoted, so that any byte arrives as it was.

import type { Process } from "@formation-mcp/contract";
import { cpio } from "./cpio.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface GuestSettings {
  hostname: string;
  process: Process;
  /** The guest ports whose listeners the init reports. */
  ports: readonly number[];
  egress: boolean;
}

/** The archive to append to the shared initramfs. */
export function guestConfig(settings: GuestSettings): Buffer {
  const { process } = settings;
  const [argv0 = "", ...args] = process.argv;
  const env = { PATH: DEFAULT_PATH, ...process.env };
  const config = [
    `FM_HOST=${quote(settings.hostname)}`,
    `FM_HEX=${quote(settings.ports.length === 0 ? "" : ` ${settings.ports.map(hexPort).join(" ")} `)}`,
    `FM_EGRESS=${settings.egress ? "1" : ""}`,
    `FM_USER=${quote(process.user)}`,
    `FM_WORKDIR=${quote(process.workdir === "" ? "/" : process.workdir)}`,
    `FM_ARGV0=${quote(argv0)}`,
    `FM_PATH=${quote(env.PATH)}`,
  ];
  const run = [
    `set --${args.map((arg) => ` ${quote(arg)}`).join("")}`,
    `if [ -n "$SUPP" ] || [ "$EXE" != "$FM_ARGV0" ]; then`,
    `  set -- $B start-stop-daemon -S -p /proc/none $CHUID -x "$EXE" -a "$FM_ARGV0" -- "$@"`,
    `else set -- "$EXE" "$@"; fi`,
    `exec $B env -i${Object.entries(env)
      .map(([name, value]) => ` ${quote(`${name}=${value}`)}`)
      .join("")}${"HOME" in env ? "" : ' "HOME=$NHOME"'} $B setsid $DROP "$@"`,
  ];
  return cpio([
    { path: "fm", mode: 0o711 },
    { path: "fm/config", mode: 0o600, data: Buffer.from(`${config.join("\n")}\n`) },
    { path: "fm/run", mode: 0o600, data: Buffer.from(`${run.join("\n")}\n`) },
  ]);
}

/** A word that a POSIX shell reads as exactly this text, which has no NUL. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function hexPort(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, "0");
}
