// Decides how a finished image is started: the formfile overrides the base image's configuration.

import { FormationError, type Process } from "@formation-mcp/contract";
import type { Formfile } from "@formation-mcp/formfile";
import type { ImageConfig } from "./config.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The configuration of an empty image (scratch). */
export const EMPTY_CONFIG: ImageConfig = {
  architecture: "amd64",
  os: "linux",
  user: "",
  env: [],
  entrypoint: [],
  cmd: [],
  workdir: "",
  ports: [],
  onBuild: [],
};

/**
 * Merges a base's configuration and a formfile into the workload's process.
 * @throws FormationError `invalid` if neither has a command.
 */
export function processOf(formfile: Formfile, base: ImageConfig, workdir: string): Process {
  const argv =
    formfile.entrypoint === null
      ? [...base.entrypoint, ...base.cmd]
      : typeof formfile.entrypoint === "string"
        ? ["/bin/sh", "-c", formfile.entrypoint]
        : [...formfile.entrypoint];
  if (argv.length === 0) {
    throw new FormationError(
      "invalid",
      `Nothing says what to start: ${formfile.from} has no command of its own.`,
      {
        field: "entrypoint",
        remedy: 'Set `entrypoint`, for example "exec my-server --port 8080" or ["/app/server"].',
      },
    );
  }
  const env: Record<string, string> = { PATH: DEFAULT_PATH };
  for (const pair of base.env) {
    const [, name, value] = /^([A-Za-z_][A-Za-z0-9_]*)=([^\0]*)$/s.exec(pair) ?? [];
    // A shell cannot export other names (XBD 8.1).
    if (name !== undefined && value !== undefined) env[name] = value;
  }
  return { argv, env: { ...env, ...formfile.env }, workdir, user: base.user };
}

/** The ports of an image: the formfile's in its order, else the base's TCP ports in ascending order. */
export function portsOf(formfile: Formfile, base: ImageConfig): number[] {
  if (formfile.expose.length > 0) return [...formfile.expose];
  const ports = base.ports.flatMap((port) => {
    const match = /^(\d{1,5})(?:\/tcp)?$/.exec(port);
    return match ? [Number(match[1])] : [];
  });
  return [...new Set(ports.filter((port) => port >= 1 && port <= 65_535))].sort((a, b) => a - b);
}
