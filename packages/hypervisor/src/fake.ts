// The fake driver: a machine is a directory and a child process, so that everything above it can be tried at speed, with
// real bytes, ports and exit codes, where no virtual machine can run. It keeps nobody from anything: never give it a
// workload that is not trusted.

import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, FormationError, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import { SUPERVISOR } from "./fake/supervisor.ts";
import type { Place, Runner } from "./machine/driver.ts";
import { openHypervisor } from "./machine/hypervisor.ts";
import { killAll, processesBelow } from "./machine/processes.ts";
import type { Hypervisor, MachineSpec } from "./port.ts";

export interface FakeOptions {
  /** Only this driver writes here; made with mode 0700. */
  stateDir: string;
  clock?: Clock;
  logger?: Logger;
  /** Where forwarded ports are bound. Default 127.0.0.1. */
  bindAddress?: string;
}

const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Opens the fake. A spec's `disk` is a JSON file `{"rootfs": directory}`: a copy of that directory is the machine's disk. A
 * guest port is a port of this host, where the child must listen on all addresses; `user`, `vcpus`, `memory_mb` and
 * `egress` mean nothing here.
 */
export async function openFakeHypervisor(options: FakeOptions): Promise<Hypervisor> {
  const settings = { stateDir: options.stateDir, bindAddress: options.bindAddress ?? "127.0.0.1" };
  mkdirSync(settings.stateDir, { recursive: true, mode: 0o700 });
  return openHypervisor(
    settings,
    fakeRunner(settings),
    options.clock ?? systemClock,
    options.logger ?? silentLogger,
  );
}

function fakeRunner(settings: { stateDir: string; bindAddress: string }): Runner {
  return {
    uidBase: null,
    accelerator: async () => null,
    make: async (spec, place) => makeFiles(spec, place),
    prepare: async () => {},
    egress: async () => ({ mode: "none", reason: "the fake driver has no network of its own" }),
    command: (journal) => ({
      program: process.execPath,
      args: [
        "supervisor.cjs",
        JSON.stringify({ forwards: journal.forwards, bindAddress: settings.bindAddress }),
      ],
      env: { PATH: DEFAULT_PATH },
      unenforced: [],
    }),
    // What a killed supervisor left running.
    release: async (journal) => {
      await killAll(processesBelow(join(settings.stateDir, "machines")).get(journal.id) ?? []);
    },
    keepOnly: async () => {},
    restore: async () => {},
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

function makeFiles(spec: MachineSpec, place: Place): void {
  let rootfs: unknown;
  try {
    rootfs = (JSON.parse(readFileSync(spec.disk, "utf8")) as { rootfs?: unknown }).rootfs;
  } catch (cause) {
    throw new FormationError("unavailable", "The disk is none that the fake builder made.", { cause });
  }
  if (typeof rootfs !== "string") throw new FormationError("unavailable", "The disk names no rootfs.");
  cpSync(rootfs, join(place.runDirectory, "rootfs"), { recursive: true, verbatimSymlinks: true });
  const { argv, env, workdir } = spec.process;
  const orders = { argv, env: { PATH: DEFAULT_PATH, ...env }, workdir: workdir === "" ? "/" : workdir };
  writeFileSync(join(place.directory, "fake.json"), JSON.stringify(orders), { mode: 0o600 });
  writeFileSync(join(place.runDirectory, "supervisor.cjs"), SUPERVISOR, { mode: 0o600 });
}
