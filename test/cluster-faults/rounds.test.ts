// Whatever fails in a cluster of real processes on PostgreSQL and NATS: what was accepted ends truthfully, nothing is lost,
// done twice or left over, and who can't serve says so. CLUSTER_FAULT_ROUNDS plays many, with faults as long as an outage;
// FAULT_SEED=n CLUSTER_FAULT_ROUNDS=1 plays one again.

import { afterAll, beforeAll, expect, test } from "vitest";
import { type Cable, lay } from "../support/cluster/cable.ts";
import { Client } from "../support/cluster/client.ts";
import { round } from "../support/cluster/round.ts";
import { type Cluster, testCluster } from "../support/cluster.ts";
import { becomeAdmin, newUser } from "../support/http/people.ts";

const rounds = process.env["CLUSTER_FAULT_ROUNDS"];
const seed = Number(process.env["FAULT_SEED"] ?? Math.floor(Math.random() * 1_000_000));
/** What each run plays, in this order; a long set chooses by its seeds. */
const SHORT = ["a worker killed", "NATS without its store", "PostgreSQL crashed"];
const plan = rounds === undefined ? SHORT : Array.from({ length: Number(rounds) }, () => undefined);

const cables = new Map<string, Cable>();
let cluster: Cluster;
let client: Client;
beforeAll(async () => {
  cluster = await testCluster({
    env: { FORMATION_SWEEP_SECONDS: "2" },
    async natsFor(worker, port) {
      const cable = await lay(port, "nats");
      cables.set(worker, cable);
      return cable.url;
    },
  });
  const admin = await becomeAdmin(cluster.url, cluster.bootstrapToken, "ed25519");
  client = new Client(cluster, await newUser(cluster.url, admin));
});
afterAll(async () => {
  await cluster?.stop();
  for (const cable of cables.values()) await cable.close();
});

test("after a fault at a random moment everything is true and nothing is left", {
  retry: 0,
  timeout: plan.length * 300_000,
}, async () => {
  for (const [at, fault] of plan.entries()) {
    const told = await round(seed + at, {
      victims: { cluster, cables },
      client,
      long: rounds !== undefined,
      ...(fault === undefined ? {} : { fault }),
    });
    process.stderr.write(`  cluster: ${told}: held\n`);
  }
  expect(client.offences).toEqual([]);
});
