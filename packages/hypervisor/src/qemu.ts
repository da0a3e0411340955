// The QEMU driver's door: each machine is a virtual machine in a QEMU process of its own.

import { mkdirSync } from "node:fs";
import { type Clock, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import { ownProfile } from "@formation-mcp/os";
import type { KernelOverride } from "./guest/kernel.ts";
import { openHypervisor } from "./machine/hypervisor.ts";
import type { Hypervisor } from "./port.ts";
import { createQemuDriver } from "./qemu/driver.ts";

export type { KernelOverride } from "./guest/kernel.ts";

export interface QemuOptions {
  /** Only this driver writes here; made with mode 0700. */
  stateDir: string;
  clock?: Clock;
  logger?: Logger;
  /**
   * `root`: each machine has an account, cgroups and firewall rules. Default: `root` if this process runs as
   * root.
   */
  profile?: "root" | "user";
  /** The host address that forwarded ports are bound to. Default 127.0.0.1. */
  bindAddress?: string;
  /** The guest's kernel. Default: Debian's cloud kernel, which is downloaded once. */
  kernel?: KernelOverride;
  /** Default `auto`: KVM if a guest boots with it, else emulation (TCG). */
  accelerator?: "auto" | "kvm" | "tcg";
  /** Whether guests may reach the internet at all. Default `internet`. */
  egress?: "internet" | "none";
  /** Networks that guests may reach beyond the built-in rules, in CIDR notation. */
  allowCidrs?: readonly string[];
  /** Networks that guests may not reach, in CIDR notation; they win over `allowCidrs`. */
  denyCidrs?: readonly string[];
  /**
   * The first account number (uid) for machines. Default: above 2,000,000,000, derived from the path of
   * `stateDir`.
   */
  uidBase?: number;
  /** A statically linked busybox for the guest's init. Default /bin/busybox. */
  busyboxPath?: string;
}

/**
 * Opens the driver. It changes only its directory until a machine is started.
 * @throws FormationError `invalid` for a network that is not in CIDR notation.
 */
export async function openQemuHypervisor(options: QemuOptions): Promise<Hypervisor> {
  const settings = { stateDir: options.stateDir, bindAddress: options.bindAddress ?? "127.0.0.1" };
  const logger = options.logger ?? silentLogger;
  mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
  const driver = createQemuDriver({
    ...settings,
    profile: options.profile ?? ownProfile(),
    kernel: options.kernel,
    accelerator: options.accelerator ?? "auto",
    egress: options.egress ?? "internet",
    allowCidrs: options.allowCidrs ?? [],
    denyCidrs: options.denyCidrs ?? [],
    uidBase: options.uidBase,
    busyboxPath: options.busyboxPath ?? "/bin/busybox",
    logger,
  });
  return openHypervisor(settings, driver, options.clock ?? systemClock, logger);
}
