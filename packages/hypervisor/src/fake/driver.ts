// This folder knows how a machine is faked: a copy of a directory as its disk, and a supervisor process that
// stands in for QEMU. This file is the driver: it makes those and says how the supervisor is started.

import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { HypervisorSettings } from "../machine/deps.ts";
import type { MachineDriver } from "../machine/driver.ts";
import type { MachinePaths } from "../machine/files.ts";
import { killAll, processesBelow } from "../machine/processes.ts";
import type { MachineSpec } from "../port.ts";
import { SUPERVISOR } from "./supervisor.ts";

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SUPERVISOR_FILE = "supervisor.cjs";

export function createFakeDriver(settings: HypervisorSettings): MachineDriver {
  return {
    uidBase: null,
    accelerator: async () => null,
    provision: async (spec, paths) => copyRootfs(spec, paths),
    prepareBoot: async () => {},
    setEgress: async () => ({ mode: "none", reason: "the fake driver has no network of its own" }),
    command: ({ forwards }) => ({
      program: process.execPath,
      args: [SUPERVISOR_FILE, JSON.stringify({ forwards, bindAddress: settings.bindAddress })],
      env: { PATH: DEFAULT_PATH },
      unenforced: [],
    }),
    // Children that a killed supervisor left behind.
    release: async (journal, paths) => {
      await killAll(processesBelow(dirname(paths.directory)).get(journal.id) ?? []);
    },
    keepOnly: async () => {},
    restoreRules: async () => {},
    probe: async () => ({
      driver: "fake",
      version: process.version,
      accelerator: "tcg",
      ready: true,
      problems: [],
      enforced: [
        {
          what: "isolation from the host",
          enforced: false,
          how: "the fake driver runs plain child processes",
        },
      ],
    }),
  };
}

/** Copies the disk's directory into the machine, with the supervisor and the orders that it reads. */
function copyRootfs(spec: MachineSpec, paths: MachinePaths): void {
  let rootfs: unknown;
  try {
    rootfs = (JSON.parse(readFileSync(spec.disk, "utf8")) as { rootfs?: unknown }).rootfs;
  } catch (cause) {
    throw new FormationError("unavailable", "The disk is none that the fake builder made.", { cause });
  }
  if (typeof rootfs !== "string") throw new FormationError("unavailable", "The disk names no rootfs.");
  cpSync(rootfs, join(paths.runDirectory, "rootfs"), { recursive: true, verbatimSymlinks: true });
  const { argv, env, workdir } = spec.process;
  const orders = { argv, env: { PATH: DEFAULT_PATH, ...env }, workdir: workdir === "" ? "/" : workdir };
  writeFileSync(join(paths.directory, "fake.json"), JSON.stringify(orders), { mode: 0o600 });
  writeFileSync(join(paths.runDirectory, SUPERVISOR_FILE), SUPERVISOR, { mode: 0o600 });
}
