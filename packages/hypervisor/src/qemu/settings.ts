// The settings of the QEMU driver with their defaults filled in, and the names that keep two workers on one
// host apart.

import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import type { Logger } from "@formation-mcp/contract";
import type { KernelOverride } from "../guest/kernel.ts";

/** See `QemuOptions` for the meaning of each. */
export interface QemuSettings {
  stateDir: string;
  bindAddress: string;
  profile: "root" | "user";
  kernel: KernelOverride | undefined;
  accelerator: "auto" | "kvm" | "tcg";
  egress: "internet" | "none";
  allowCidrs: readonly string[];
  denyCidrs: readonly string[];
  uidBase: number | undefined;
  busyboxPath: string;
  logger: Logger;
}

// Account numbers far above those of people and containers, and below 2^31.
const FIRST_UID = 2_000_000_000;
const UIDS_PER_BLOCK = 1000;
const UID_BLOCKS = 140_000;

/** What is unique to a worker on its host, derived from its state directory. */
export interface WorkerNames {
  /** For cgroups. */
  group: string;
  /** For iptables chains. */
  chain: string;
  /** The first account number (uid) of its machines. */
  uidBase: number;
}

export function workerNames(settings: QemuSettings): WorkerNames {
  const short = createHash("sha256").update(realpathSync(settings.stateDir)).digest("hex").slice(0, 8);
  const block = Number.parseInt(short, 16) % UID_BLOCKS;
  return {
    group: `formation-${short}`,
    chain: `FM-${short}`,
    uidBase: settings.uidBase ?? FIRST_UID + block * UIDS_PER_BLOCK,
  };
}
