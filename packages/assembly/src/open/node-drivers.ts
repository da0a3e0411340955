// Opens the builder and the hypervisor that the configuration chooses: buildah and QEMU, or the fakes.

import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Builder } from "@formation-mcp/builder";
import type { Logger } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import type { Configuration } from "../settings/configuration.ts";
import { complete } from "../settings/setting.ts";
import type { Layout } from "./layout.ts";

/** What builds images and runs VMs on this machine. */
export interface NodeDrivers {
  builder: Builder;
  hypervisor: Hypervisor;
}

export async function openNodeDrivers(
  layout: Layout,
  configuration: Configuration,
  logger: Logger,
): Promise<NodeDrivers> {
  return configuration.drivers === "fake"
    ? openFakeDrivers(layout, configuration, logger)
    : openRealDrivers(layout, configuration, logger);
}

async function openFakeDrivers(
  layout: Layout,
  { bindAddress, fakeStepMs }: Configuration,
  logger: Logger,
): Promise<NodeDrivers> {
  const [{ openFakeBuilder }, { openFakeHypervisor }] = await Promise.all([
    import("@formation-mcp/builder/fake"),
    import("@formation-mcp/hypervisor/fake"),
  ]);
  const hypervisor = await openFakeHypervisor({ stateDir: layout.hypervisor, bindAddress, logger });
  return {
    builder: await openFakeBuilder({ stateDir: layout.builder, stepMs: fakeStepMs }),
    hypervisor: fakeStepMs > 0 ? slowedDown(hypervisor, fakeStepMs) : hypervisor,
  };
}

async function openRealDrivers(
  layout: Layout,
  configuration: Configuration,
  logger: Logger,
): Promise<NodeDrivers> {
  const [{ openBuildahBuilder }, { openQemuHypervisor }] = await Promise.all([
    import("@formation-mcp/builder/buildah"),
    import("@formation-mcp/hypervisor/qemu"),
  ]);
  const { allowCidrs, denyCidrs, registryAuthFile } = configuration;
  const kernel = kernelOf(configuration);
  return {
    builder: await openBuildahBuilder({
      stateDir: layout.builder,
      logger,
      network: configuration.buildNetwork,
      allowCidrs,
      denyCidrs,
      plainHttpRegistries: configuration.plainHttpRegistries,
      ...(registryAuthFile ? { registryAuthFile } : {}),
    }),
    hypervisor: await openQemuHypervisor({
      stateDir: layout.hypervisor,
      logger,
      bindAddress: configuration.bindAddress,
      accelerator: configuration.accelerator,
      egress: configuration.vmEgress,
      allowCidrs,
      denyCidrs,
      ...(kernel ? { kernel } : {}),
    }),
  };
}

/**
 * The kernel that the settings name, or null for the downloaded one. Its version is the name of its modules
 * directory.
 */
function kernelOf(configuration: Configuration) {
  const kernel = complete(configuration.kernel);
  return kernel && { ...kernel, version: basename(kernel.modules) };
}

const SLOWED_METHODS: readonly PropertyKey[] = ["create", "start", "stop", "pause", "resume", "remove"];

/**
 * Makes calls last at least `stepMs`, so that a test can kill a process in the middle of one. Half of the
 * time passes before the call and half after it; for `start` all of it after, because a lease guard counts
 * from the call.
 */
function slowedDown(hypervisor: Hypervisor, stepMs: number): Hypervisor {
  return new Proxy(hypervisor, {
    get(target, name, receiver) {
      const value: unknown = Reflect.get(target, name, receiver);
      if (typeof value !== "function" || !SLOWED_METHODS.includes(name)) return value;
      return async (...args: unknown[]) => {
        const before = name === "start" ? 0 : stepMs / 2;
        await delay(before);
        const result: unknown = await Reflect.apply(value, target, args);
        await delay(stepMs - before);
        return result;
      };
    },
  });
}
