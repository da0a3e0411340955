// Which builder and hypervisor a configuration means, opened.

import { setTimeout as delay } from "node:timers/promises";
import type { Builder } from "@formation-mcp/builder";
import type { Logger } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import type { Configuration } from "../settings/configuration.ts";
import type { Layout } from "./layout.ts";

export interface Engines {
  builder: Builder;
  hypervisor: Hypervisor;
}

export async function openEngines(
  layout: Layout,
  configuration: Configuration,
  logger: Logger,
): Promise<Engines> {
  if (configuration.drivers === "fake") {
    const [{ openFakeBuilder }, { openFakeHypervisor }] = await Promise.all([
      import("@formation-mcp/builder/fake"),
      import("@formation-mcp/hypervisor/fake"),
    ]);
    const { bindAddress, fakeStepMs } = configuration;
    const hypervisor = await openFakeHypervisor({ stateDir: layout.hypervisor, bindAddress, logger });
    return {
      builder: await openFakeBuilder({ stateDir: layout.builder, stepMs: fakeStepMs }),
      hypervisor: fakeStepMs > 0 ? slowed(hypervisor, fakeStepMs) : hypervisor,
    };
  }
  const [{ openBuildahBuilder }, { openQemuHypervisor }] = await Promise.all([
    import("@formation-mcp/builder/buildah"),
    import("@formation-mcp/hypervisor/qemu"),
  ]);
  const { allowCidrs, denyCidrs } = configuration;
  return {
    builder: await openBuildahBuilder({
      stateDir: layout.builder,
      logger,
      network: configuration.buildNetwork,
      allowCidrs,
      denyCidrs,
      plainHttpRegistries: configuration.plainHttpRegistries,
      ...(configuration.registryAuthFile ? { registryAuthFile: configuration.registryAuthFile } : {}),
    }),
    hypervisor: await openQemuHypervisor({
      stateDir: layout.hypervisor,
      logger,
      bindAddress: configuration.bindAddress,
      accelerator: configuration.accelerator,
      egress: configuration.vmEgress,
      allowCidrs,
      denyCidrs,
      ...(configuration.kernel ? { kernel: configuration.kernel } : {}),
    }),
  };
}

const ACTS: readonly PropertyKey[] = ["create", "start", "stop", "pause", "resume", "remove"];

/**
 * Whoever is to die amid an act needs it to last: half of the time passes before it, half after; of a start all of it
 * after, because a leash counts from the call.
 */
function slowed(hypervisor: Hypervisor, stepMs: number): Hypervisor {
  return new Proxy(hypervisor, {
    get(target, name, receiver) {
      const value: unknown = Reflect.get(target, name, receiver);
      if (typeof value !== "function" || !ACTS.includes(name)) return value;
      return async (...given: unknown[]) => {
        const before = name === "start" ? 0 : stepMs / 2;
        await delay(before);
        const done: unknown = await Reflect.apply(value, target, given);
        await delay(stepMs - before);
        return done;
      };
    },
  });
}
