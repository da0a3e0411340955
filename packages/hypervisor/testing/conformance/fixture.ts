// What the cases of the hypervisor's suite work with: one open driver with a disk, and short ways to run a
// machine.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hypervisor, MachineSpec, MachineStatus } from "@formation-mcp/hypervisor";
import { afterAll, beforeAll } from "vitest";

/** What a driver's own test gives to the suite. */
export interface HypervisorHarness {
  open(stateDir: string): Promise<Hypervisor>;
  /** A disk with busybox in /bin and these files, whose paths are relative to its root. */
  disk(files: Record<string, string>): Promise<string>;
  /**
   * A program that opens the driver and performs the steps of `WorkerOrders`, which is its last argument as
   * JSON. It prints the name of each step before the step, and `done` at the end. Then it waits to be killed.
   */
  worker(): { file: string; args: string[] };
  /** A port for a workload to listen on. */
  guestPort(): Promise<number>;
  /** How long a machine may take until it is live or has failed, in milliseconds. */
  liveTimeoutMs: number;
  /** What this state directory's machines have left outside of it: firewall rules, cgroups. */
  leftovers(stateDir: string): Promise<string[]>;
  /** How many seeded kills of the worker are tried, and within how long. */
  kills: { rounds: number; withinMs: number };
}

/** One driver, open for all cases of the suite. */
export interface HypervisorFixture {
  readonly harness: HypervisorHarness;
  readonly stateDir: string;
  readonly hypervisor: Hypervisor;
  /** With `srv/index.html`, which is "the page", and `srv/plain`, which is no program. */
  readonly disk: string;
  live(id: string, timeoutMs?: number): Promise<MachineStatus>;
  /** Creates a machine, starts it, and waits until it is live. */
  run(spec: MachineSpec): Promise<MachineStatus>;
}

/** A signal that is never aborted. */
export const NEVER: AbortSignal = new AbortController().signal;

/** Opens the driver before the cases of the enclosing `describe`, and removes its machines after them. */
export function useHypervisor(harness: HypervisorHarness): HypervisorFixture {
  let stateDir: string;
  let hypervisor: Hypervisor;
  let disk: string;
  beforeAll(async () => {
    stateDir = mkdtempSync(join(tmpdir(), "hypervisor-"));
    hypervisor = await harness.open(stateDir);
    await hypervisor.recover();
    disk = await harness.disk({ "srv/index.html": "the page", "srv/plain": "no program" });
  }, 60_000);
  afterAll(async () => {
    for (const { id } of await hypervisor.list()) await hypervisor.remove(id);
    await hypervisor.close();
    rmSync(stateDir, { recursive: true, force: true });
  }, 60_000);
  const live = (id: string, timeoutMs = harness.liveTimeoutMs) =>
    hypervisor.waitLive(id, { signal: NEVER, timeoutMs });
  return {
    harness,
    get stateDir() {
      return stateDir;
    },
    get hypervisor() {
      return hypervisor;
    },
    get disk() {
      return disk;
    },
    live,
    async run(spec) {
      await hypervisor.create(spec);
      await hypervisor.start(spec.id, { signal: NEVER });
      return live(spec.id);
    },
  };
}

/** A spec that serves its working directory on the port. */
export function serving(id: string, disk: string, guestPort: number, script = ""): MachineSpec {
  return {
    id,
    hostname: "web",
    disk,
    vcpus: 1,
    memory_mb: 192,
    process: {
      argv: ["/bin/sh", "-c", `${script}\nexec busybox httpd -f -p ${guestPort} -h .`],
      env: {},
      workdir: "/srv",
      user: "",
    },
    ports: [{ guest_port: guestPort, port: null }],
    egress: true,
  };
}

/** The host port that leads to a machine's first port. */
export function portOf(status: MachineStatus): number {
  return status.endpoints[0]?.port ?? 0;
}
