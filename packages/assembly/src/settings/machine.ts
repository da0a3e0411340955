// The settings of every program that works on this machine: the state directory, networks, limits, what the
// node offers.

import { realpathSync } from "node:fs";
import { availableParallelism, homedir, totalmem } from "node:os";
import { isAbsolute, join } from "node:path";
import { LIMITS } from "@formation-mcp/contract";
import { z } from "zod";
import {
  amount,
  bytes,
  computed,
  directories,
  ipAddress,
  list,
  networks,
  oneOf,
  optional,
  path,
  seconds,
  text,
  wholeAmount,
  withDefault,
  words,
} from "./kinds.ts";
import type { Environment, Section, Values } from "./setting.ts";

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
const DAY_SECONDS = 86_400;
const YEAR_SECONDS = 365 * DAY_SECONDS;
/** CPUs are shared between VMs as between processes. */
const VCPUS_PER_CORE = 8;
/** Memory is not promised twice, and the host keeps some for itself. */
const MEMORY_PERCENT = 80;

const settings = {
  stateDir: {
    name: "FORMATION_STATE_DIR",
    help: "where everything is kept",
    ...computed(path, "$XDG_STATE_HOME/formation-mcp", defaultStateDir),
  },
  allowDirs: {
    name: "FORMATION_ALLOW_DIR",
    help: "directories that context_dir may name, separated by ':'",
    ...computed(directories, "the working directory", defaultAllowDirs),
    separator: ":",
  },
  bindAddress: {
    name: "FORMATION_BIND_ADDRESS",
    help: "the address that VMs' ports are forwarded to",
    ...withDefault(ipAddress, "127.0.0.1"),
  },
  accelerator: {
    name: "FORMATION_ACCELERATOR",
    help: "auto, kvm or tcg",
    ...oneOf(["auto", "kvm", "tcg"], "auto"),
  },
  kernel: {
    image: {
      name: "FORMATION_KERNEL",
      help: "a Linux kernel image for VMs instead of the downloaded one; needs FORMATION_KERNEL_MODULES",
      ...optional(path),
    },
    modules: {
      name: "FORMATION_KERNEL_MODULES",
      help: "that kernel's modules directory (…/lib/modules/<version>)",
      ...optional(path),
    },
  },
  buildNetwork: {
    name: "FORMATION_BUILD_NETWORK",
    help: "internet or none, for RUN lines",
    ...oneOf(["internet", "none"], "internet"),
  },
  vmEgress: {
    name: "FORMATION_VM_EGRESS",
    help: "internet (where it can be filtered) or none, for VMs",
    ...oneOf(["internet", "none"], "internet"),
  },
  allowCidrs: {
    name: "FORMATION_ALLOW_CIDRS",
    help: "private networks that builds and VMs may reach, separated by ','",
    ...list(networks),
  },
  denyCidrs: {
    name: "FORMATION_DENY_CIDRS",
    help: "more networks that builds and VMs may not reach, separated by ','",
    ...list(networks),
  },
  plainHttpRegistries: {
    name: "FORMATION_PLAIN_HTTP_REGISTRIES",
    help: "registries (host:port) that may be read over plain HTTP, separated by ','",
    ...list(words),
  },
  registryAuthFile: {
    name: "REGISTRY_AUTH_FILE",
    help: "credentials for private registries, as containers-auth.json(5)",
    ...optional(text),
  },
  operationKeptMs: {
    name: "FORMATION_OPERATION_KEPT_SECONDS",
    help: "how long an operation is kept after it ended",
    ...seconds({ min: 1, max: YEAR_SECONDS, default: LIMITS.operationKeptMs / 1000 }),
  },
  sweepEveryMs: {
    name: "FORMATION_SWEEP_SECONDS",
    help: "how often the sweep runs",
    ...seconds({ min: 0.1, max: DAY_SECONDS, default: LIMITS.sweepEveryMs / 1000 }),
  },
  unusedBuildKeptMs: {
    name: "FORMATION_UNUSED_BUILD_SECONDS",
    help: "how long an unused build is kept",
    ...seconds({ min: 1, max: YEAR_SECONDS, default: LIMITS.unusedBuildKeptMs / 1000 }),
  },
  cacheBytes: {
    name: "FORMATION_CACHE_GB",
    help: "disk budget of the build and disk caches",
    ...bytes(GiB, { min: 1, max: 100_000, default: 20 }),
  },
  build: {
    timeoutMs: {
      name: "FORMATION_BUILD_SECONDS",
      help: "how long a build may take",
      ...seconds({ min: 1, max: DAY_SECONDS, default: LIMITS.buildMs / 1000 }),
    },
    memoryMb: {
      name: "FORMATION_BUILD_MEMORY_MB",
      help: "memory that a build may use",
      ...computed(
        amount(64, 1_048_576, LIMITS.buildMemoryMb),
        `${LIMITS.buildMemoryMb}, or a third of the machine's if that is less`,
        () => Math.min(LIMITS.buildMemoryMb, Math.max(64, Math.floor(totalmem() / MiB / 3))),
      ),
    },
    diskBytes: {
      name: "FORMATION_BUILD_DISK_MB",
      help: "disk that a build may add",
      ...bytes(MiB, { min: 16, max: 2_097_152, default: LIMITS.buildDiskBytes / MiB }),
    },
  },
  bootMs: {
    name: "FORMATION_BOOT_SECONDS",
    help: "how long a VM may take until it is live",
    ...seconds({ min: 1, max: DAY_SECONDS, default: LIMITS.bootMs / 1000 }),
  },
  worker: {
    name: "FORMATION_WORKER",
    help: "auto: start the background worker of this machine when needed; none: others work",
    ...optional(() => z.enum(["auto", "none"]), "auto; with a shared database or NATS: none"),
  },
  idleMs: {
    name: "FORMATION_IDLE_SECONDS",
    help: "how long the background worker stays when idle",
    ...seconds({ min: 0.1, max: YEAR_SECONDS, default: 300 }),
  },
  capacity: {
    vcpus: {
      name: "FORMATION_VCPUS",
      help: "vCPUs that this node offers",
      ...computed(
        wholeAmount(1, 65_536, 16),
        `${VCPUS_PER_CORE} per core`,
        () => availableParallelism() * VCPUS_PER_CORE,
      ),
    },
    memory_mb: {
      name: "FORMATION_MEMORY_MB",
      help: "memory that this node offers",
      ...computed(wholeAmount(64, 2 ** 40, 8192), `${MEMORY_PERCENT} % of what it has`, () =>
        Math.floor((totalmem() / MiB) * (MEMORY_PERCENT / 100)),
      ),
    },
    disk_gb: {
      name: "FORMATION_DISK_GB",
      help: "disk that this node offers",
      ...optional(wholeAmount(1, 2 ** 40, 100), "what is free"),
    },
  },
  leaseMs: {
    name: "FORMATION_LEASE_SECONDS",
    help: "how long a worker may run an operation without renewing its lease; after three of these a silent node counts as dead; the same for all workers",
    ...seconds({ min: 1, max: 600, default: LIMITS.leaseMs / 1000 }),
  },
  pollEveryMs: {
    name: "FORMATION_POLL_SECONDS",
    help: "how often a worker asks for work without a wake-up, in case one was lost",
    ...seconds({ min: 0.1, max: 600, default: LIMITS.pollEveryMs / 1000 }),
  },
  drivers: {
    name: "FORMATION_DRIVERS",
    help: "real or fake: fake runs workloads as plain child processes, for tests and development",
    ...oneOf(["real", "fake"], "real"),
  },
  fakeStepMs: {
    name: "FORMATION_FAKE_STEP_SECONDS",
    help: "the least time that each step of the fake drivers takes",
    ...seconds({ min: 0, max: 60, default: 0 }),
  },
  logLevel: {
    name: "FORMATION_LOG_LEVEL",
    help: "debug, info, warn or error",
    ...oneOf(["debug", "info", "warn", "error"], "info"),
  },
};

export const MACHINE = {
  title: "the machine",
  programs: ["formation-mcp", "formation-mcp-http", "formation-mcp-worker"],
  inFile: true,
  settings,
} as const satisfies Section;

export type MachineSettings = Values<typeof settings>;

/** What each setting allows alone and all together do not, one line each. */
export function machineProblems({ kernel }: MachineSettings): string[] {
  return (kernel.image === null) === (kernel.modules === null)
    ? []
    : ["FORMATION_KERNEL: FORMATION_KERNEL and FORMATION_KERNEL_MODULES go together"];
}

function defaultStateDir({ XDG_STATE_HOME: stateHome }: Environment): string {
  const home = stateHome && isAbsolute(stateHome) ? stateHome : join(homedir(), ".local", "state");
  return join(home, "formation-mcp");
}

/**
 * The working directory, unless it is the home directory or contains it, as `/` does: desktop hosts start
 * servers there, and that would offer too much.
 */
function defaultAllowDirs(): string[] {
  const here = process.cwd();
  const homes = [homedir(), realpathIfThere(homedir())];
  return homes.some((home) => home === here || home.startsWith(here === "/" ? here : `${here}/`))
    ? []
    : [here];
}

function realpathIfThere(given: string): string {
  try {
    return realpathSync(given);
  } catch {
    return given;
  }
}
