// Reads an image's configuration. It comes with the image and is untrusted, so only strings in their expected
// places are used.

import { FormationError } from "@formation-mcp/contract";

/** How an image says it is to be run. Untrusted. */
export interface ImageConfig {
  architecture: string;
  os: string;
  user: string;
  env: string[];
  entrypoint: string[];
  cmd: string[];
  workdir: string;
  ports: string[];
  /** Instructions (ONBUILD) that the image wants run in every build on it. */
  onBuild: string[];
}

/** Takes the known fields from `buildah inspect` and ignores everything else. */
export function readImageConfig(inspected: unknown): ImageConfig {
  const texts = (value: unknown): string[] =>
    Array.isArray(value) ? value.filter((one): one is string => typeof one === "string") : [];
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  const image = memberOf(inspected, "OCIv1");
  const config = memberOf(image, "config");
  if (typeof image !== "object" || image === null) {
    throw new FormationError("internal", "buildah described an image in a way that is not understood.");
  }
  return {
    architecture: text(memberOf(image, "architecture")),
    os: text(memberOf(image, "os")),
    user: text(memberOf(config, "User")),
    env: texts(memberOf(config, "Env")),
    entrypoint: texts(memberOf(config, "Entrypoint")),
    cmd: texts(memberOf(config, "Cmd")),
    workdir: text(memberOf(config, "WorkingDir")),
    ports: Object.keys(
      (memberOf(config, "ExposedPorts") as Record<string, unknown> | null | undefined) ?? {},
    ),
    onBuild: texts(memberOf(memberOf(memberOf(inspected, "Docker"), "config"), "OnBuild")),
  };
}

/** The instructions in an image configuration's history, in order. */
export function readHistory(config: unknown): string[] {
  const entries = memberOf(config, "history");
  if (!Array.isArray(entries)) return [];
  return entries.map((entry) => memberOf(entry, "created_by")).filter((one) => typeof one === "string");
}

/** A member of a value, or undefined if the value is no object. */
export function memberOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}
