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
  const at = (value: unknown, key: string): unknown =>
    typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  const texts = (value: unknown): string[] =>
    Array.isArray(value) ? value.filter((one): one is string => typeof one === "string") : [];
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  const image = at(inspected, "OCIv1");
  const config = at(image, "config");
  if (typeof image !== "object" || image === null) {
    throw new FormationError("internal", "buildah described an image in a way that is not understood.");
  }
  return {
    architecture: text(at(image, "architecture")),
    os: text(at(image, "os")),
    user: text(at(config, "User")),
    env: texts(at(config, "Env")),
    entrypoint: texts(at(config, "Entrypoint")),
    cmd: texts(at(config, "Cmd")),
    workdir: text(at(config, "WorkingDir")),
    ports: Object.keys((at(config, "ExposedPorts") as Record<string, unknown> | null | undefined) ?? {}),
    onBuild: texts(at(at(at(inspected, "Docker"), "config"), "OnBuild")),
  };
}
