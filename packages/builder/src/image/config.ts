// What an image says about running it. It came with the image, from anybody, so that only texts in their places are taken.

import { FormationError } from "@formation-mcp/contract";

/** What an image's configuration says about running it; untrusted, it came with the image. */
export interface ImageConfig {
  architecture: string;
  os: string;
  user: string;
  env: string[];
  entrypoint: string[];
  cmd: string[];
  workdir: string;
  ports: string[];
  /** Instructions that the image wants run in every build on it. */
  onBuild: string[];
}

/** Takes from an image's configuration what it needs, whatever else stands there. */
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

/** The instructions that an image's configuration says it was made by, in order. */
export function readHistory(config: unknown): string[] {
  const entries = memberOf(config, "history");
  if (!Array.isArray(entries)) return [];
  return entries.map((entry) => memberOf(entry, "created_by")).filter((one) => typeof one === "string");
}

/** A member of what should be an object. */
export function memberOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
}
