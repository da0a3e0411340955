// A cluster on which rounds are played one after the other. Its connections can be cut, and a watcher checks
// all the time that no instance runs twice.

import { type Cluster, testCluster } from "../cluster.ts";
import { becomeAdmin, newUser } from "../http/people.ts";
import { Client } from "./client.ts";
import { type Watch, watchMachines } from "./machines.ts";
import { round, type Told } from "./round.ts";
import { layWires, type Wires } from "./wires.ts";

export interface Lane {
  play(seed: number, fault: string): Promise<Told>;
  close(): Promise<void>;
}

export interface LaneOptions {
  number: number;
  /** Whether leases are as long as in production. */
  real: boolean;
  /** Whether outages are as long as in production. */
  long: boolean;
}

const REAL_LEASE_MS = 30_000;
const SHORT_LEASE_MS = 8000;
const OUTAGE_MS = { long: 30_000, short: 2000 };

export async function openLane({ number, real, long }: LaneOptions): Promise<Lane> {
  const leaseMs = real ? REAL_LEASE_MS : SHORT_LEASE_MS;
  const wires: Wires = layWires(number);
  let cluster: Cluster | null = null;
  let watch: Watch | null = null;
  const close = async () => {
    watch?.stop();
    try {
      await cluster?.stop();
    } finally {
      await wires.close();
    }
  };
  try {
    cluster = await testCluster({
      ...(wires.listen ? { listen: wires.listen } : {}),
      ...(wires.wayFor ? { wayFor: wires.wayFor } : {}),
      env: {
        FORMATION_SWEEP_SECONDS: "2",
        FORMATION_LEASE_SECONDS: String(leaseMs / 1000),
        // Steps must last long enough to kill a worker during one.
        FORMATION_FAKE_STEP_SECONDS: "0.4",
      },
    });
    watch = watchMachines(cluster);
    const admin = await becomeAdmin(cluster.url, cluster.bootstrapToken, "ed25519");
    const client = new Client(cluster, await newUser(cluster.url, admin));
    const outageMs = long ? OUTAGE_MS.long : OUTAGE_MS.short;
    // Back at once, after the lease, and after its node counts as lost.
    const awayMs = long ? [0, leaseMs * 1.2, leaseMs * 3.5] : [0, leaseMs * 1.2];
    const victims = { cluster, wires, leaseMs, awayMs, outageMs };
    const seen = watch;
    return { play: (seed, fault) => round(seed, { victims, client, watch: seen, fault }), close };
  } catch (error) {
    await close().catch(() => {});
    throw error;
  }
}
