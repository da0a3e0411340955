// The configuration of an instance: the build's values, overridden by those of the ship call, checked
// together.

import { hasControls } from "@formation-mcp/base";
import { type Build, type Instance, type InstanceConfig, LIMITS } from "@formation-mcp/contract";
import { type Formfile, parseFormfile } from "@formation-mcp/formfile";
import type { ToolInput } from "@formation-mcp/tools";
import { fieldPath, type Problem, throwProblems } from "../input.ts";

type VmConfig = NonNullable<ToolInput<"pack_ship">["vm_config"]>;

/**
 * The configuration of a shipped build. An instance that is replaced keeps its fixed host ports, so that its
 * addresses stay the same.
 * @throws FormationError `invalid`, naming every field that is wrong.
 */
export function instanceConfig(
  build: Pick<Build, "formfile" | "metadata" | "image">,
  wanted: VmConfig = {},
  replaced: Instance | null = null,
): InstanceConfig {
  const { formfile } = build;
  const exposed = new Set((build.image?.expose ?? formfile.expose).map(String));
  const problems: Problem[] = [];
  const kept = Object.entries(replaced?.config.host_ports ?? {}).filter(([guest]) => exposed.has(guest));
  const config: InstanceConfig = {
    resources: {
      vcpus: wanted.vcpus ?? formfile.resources.vcpus,
      memory_mb: wanted.memory_mb ?? formfile.resources.memory_mb,
      disk_gb: wanted.disk_gb ?? formfile.resources.disk_gb,
    },
    metadata: { ...build.metadata, ...wanted.metadata },
    host_ports: wanted.network?.host_ports ?? Object.fromEntries(kept),
    network: {
      join_formnet: wanted.network?.join_formnet ?? formfile.network.join_formnet,
      external_networks: wanted.network?.external_networks ?? formfile.network.external_networks,
    },
  };
  problems.push(...hostPortProblems(config.host_ports, exposed));
  problems.push(...metadataProblems(config.metadata));
  throwProblems(problems, "Correct vm_config and call again.");
  return config;
}

function hostPortProblems(ports: Record<string, number>, exposed: ReadonlySet<string>): Problem[] {
  const taken = new Map<number, string>();
  return Object.entries(ports).flatMap(([guest, port]): Problem[] => {
    const field = fieldPath(["vm_config", "network", "host_ports", guest]);
    if (!exposed.has(guest)) {
      const known =
        exposed.size === 0 ? "the build exposes no port" : `the build exposes ${[...exposed].join(", ")}`;
      return [{ field, problem: `is no exposed guest port: ${known}.` }];
    }
    const other = taken.get(port);
    taken.set(port, guest);
    return other === undefined
      ? []
      : [{ field, problem: `${port} is already given to guest port ${other}.` }];
  });
}

function metadataProblems(metadata: Record<string, string>): Problem[] {
  const field = "vm_config.metadata";
  const entries = Object.entries(metadata);
  const problems: Problem[] = [];
  if (entries.length > LIMITS.metadataKeys)
    problems.push({
      field,
      problem: `has ${entries.length} keys with the build's; at most ${LIMITS.metadataKeys}.`,
    });
  for (const [key, value] of entries.slice(0, 100)) {
    for (const [what, text] of [
      ["key", key],
      ["value", value],
    ] as const) {
      const at = fieldPath(["vm_config", "metadata", key]);
      if (Buffer.byteLength(text) > LIMITS.metadataBytes)
        problems.push({ field: at, problem: `its ${what} is longer than ${LIMITS.metadataBytes} bytes.` });
      else if (hasControls(text))
        problems.push({ field: at, problem: `its ${what} holds a control character.` });
    }
    if (key === "") problems.push({ field, problem: "has an empty key." });
  }
  return problems;
}

/** The warnings of a new instance: those of the build, and those about its own network. */
export function instanceWarnings(build: Pick<Build, "warnings">, config: InstanceConfig): string[] {
  const own = networkWarnings(config.network);
  return [...build.warnings.filter((warning) => !warning.startsWith("network.")), ...own];
}

/**
 * The warnings of the formfile parser about a network, so that the texts are the same for builds and ships.
 */
function networkWarnings(network: Formfile["network"]): string[] {
  const parsed = parseFormfile({ from: "scratch", name: "network", entrypoint: ["/network"], network });
  return parsed.ok ? parsed.warnings : [];
}
