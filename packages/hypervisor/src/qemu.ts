// The QEMU driver: one process per machine, in its own directory, as its own account where we are root.

import { mkdirSync } from "node:fs";
import { type Clock, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import type { KernelOverride } from "./guest/kernel.ts";
import { openHypervisor } from "./machine/hypervisor.ts";
import type { Hypervisor } from "./port.ts";
import { qemuRunner } from "./qemu/driver.ts";

export { fetchKernel, type Kernel, type KernelOverride } from "./guest/kernel.ts";
export { kernelCommandLine, type QemuSettings, qemuArguments } from "./qemu/command-line.ts";
export { chainRules } from "./qemu/firewall.ts";

export interface QemuOptions {
  /** Only this driver writes here; made with mode 0700. */
  stateDir: string;
  clock?: Clock;
  logger?: Logger;
  /** `root`: each machine as an account of its own, with cgroups and firewall. Default: by who we are. */
  profile?: "root" | "user";
  /** Where forwarded ports are bound. Default 127.0.0.1. */
  bindAddress?: string;
  kernel?: KernelOverride;
  accelerator?: "auto" | "kvm" | "tcg";
  /** Whether guests may reach the internet at all. Default `internet`. */
  egress?: "internet" | "none";
  /** Networks that guests may reach, or may not, beyond the built-in rules: CIDR notation. */
  allowCidrs?: readonly string[];
  denyCidrs?: readonly string[];
  /** The first of the account numbers that machines run as. Default: above 2,000,000,000, by the directory's name. */
  uidBase?: number;
  /** A static busybox for the guest's init. Default /bin/busybox. */
  busyboxPath?: string;
}

/** Opens the driver. It touches nothing but its directory until it is asked to. */
export async function openQemuHypervisor(options: QemuOptions): Promise<Hypervisor> {
  const settings = { stateDir: options.stateDir, bindAddress: options.bindAddress ?? "127.0.0.1" };
  const logger = options.logger ?? silentLogger;
  mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
  const runner = qemuRunner({
    ...settings,
    profile: options.profile ?? (process.getuid?.() === 0 ? "root" : "user"),
    kernel: options.kernel,
    accelerator: options.accelerator ?? "auto",
    egress: options.egress ?? "internet",
    allowCidrs: options.allowCidrs ?? [],
    denyCidrs: options.denyCidrs ?? [],
    uidBase: options.uidBase,
    busyboxPath: options.busyboxPath ?? "/bin/busybox",
    logger,
  });
  return openHypervisor(settings, runner, options.clock ?? systemClock, logger);
}
