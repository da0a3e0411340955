// Which builder and hypervisor a configuration means, opened.

import type { Builder } from "@formation-mcp/builder";
import type { Logger } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import type { Configuration } from "./configuration.ts";
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
    return {
      builder: await openFakeBuilder({ stateDir: layout.builder }),
      hypervisor: await openFakeHypervisor({
        stateDir: layout.hypervisor,
        bindAddress: configuration.bindAddress,
        logger,
      }),
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
