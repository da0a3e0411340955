// How records are shown: times as ISO 8601, no owner, no values of an environment, every untrusted text
// cleaned, and everything that can grow cut to a budget, so that a result stays readable.

import type { Build, Instance, InstanceConfig, Progress } from "@formation-mcp/contract";
import { LIMITS } from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";
import type { ControlDeps } from "../deps.ts";
import { cleanText, jsonBytes } from "./untrusted-text.ts";

/** The budget of one long field of a result, in bytes of JSON. */
const LONG_FIELD_BYTES = 4000;

export function iso(time: number): string {
  return new Date(time).toISOString();
}

export function isoOrNull(time: number | null | undefined): string | null {
  return time == null ? null : iso(time);
}

/**
 * The key-value pairs in their order until the budget (bytes of JSON) is used up; an entry counts the omitted
 * ones.
 */
export function pairs(
  record: Readonly<Record<string, string>>,
  budget = LONG_FIELD_BYTES,
): Record<string, unknown> {
  const shown: [string, unknown][] = [];
  let left = budget;
  const entries = Object.entries(record);
  for (const [key, value] of entries) {
    const pair: [string, string] = [
      cleanText(key, LIMITS.metadataBytes),
      cleanText(value, LIMITS.metadataBytes),
    ];
    left -= jsonBytes(pair);
    if (left < 0) break;
    shown.push(pair);
  }
  if (shown.length < entries.length) shown.push(["…", `${entries.length - shown.length} more are not shown`]);
  return Object.fromEntries(shown);
}

/** The texts in their order until the budget (bytes of JSON) is used up; an entry counts the omitted ones. */
export function texts(list: readonly string[], budget = LONG_FIELD_BYTES): string[] {
  const shown: string[] = [];
  let left = budget;
  for (const text of list) {
    const clean = cleanText(text, 500);
    left -= jsonBytes(clean) + 1;
    if (left < 0) {
      shown.push(`… ${list.length - shown.length} more are not shown`);
      break;
    }
    shown.push(clean);
  }
  return shown;
}

/** A formfile with only the names of its environment variables: their values may be secrets. */
export function formfileView(formfile: Formfile): Record<string, unknown> {
  const { env, run, include, metadata, entrypoint, network, ...rest } = formfile;
  return {
    ...rest,
    run: texts(run),
    include: texts(include, 2000),
    env: texts(Object.keys(env), 1000),
    entrypoint: Array.isArray(entrypoint)
      ? texts(entrypoint, 1000)
      : entrypoint === null
        ? null
        : cleanText(entrypoint, 500),
    network: { ...network, external_networks: texts(network.external_networks, 500) },
    metadata: pairs(metadata, 2000),
  };
}

export function imageView(build: Build): { image?: Record<string, unknown> } {
  if (!build.image) return {};
  const { digest, bytes, expose, base } = build.image;
  return { image: { digest, bytes, expose, base: base.reference, base_digest: base.digest } };
}

export function progressView(progress: Progress | null): {
  progress?: { step: string; message: string; fraction: number | null };
} {
  if (!progress) return {};
  const { step, message, fraction } = progress;
  return { progress: { step: cleanText(step, 80), message: cleanText(message, 300), fraction } };
}

/**
 * The URL of a guest port on its node. If the port is bound to every address, the host is the one that
 * callers know, or loopback.
 */
export function endpointUrl(
  address: string,
  port: number,
  { knownAs }: Pick<ControlDeps, "knownAs">,
): string {
  const every = address === "0.0.0.0" || address === "::";
  const host = every ? (knownAs ?? (address === "::" ? "::1" : "127.0.0.1")) : address;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** The URLs of a running instance. */
export function urlsOf(instance: Instance, deps: Pick<ControlDeps, "knownAs">): string[] {
  if (instance.state !== "running") return [];
  return (instance.observed?.endpoints ?? []).map(({ address, port }) => endpointUrl(address, port, deps));
}

export function networkView({ network, host_ports }: InstanceConfig): Record<string, unknown> {
  return { ...network, external_networks: texts(network.external_networks, 500), host_ports };
}
