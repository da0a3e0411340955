// @module-tag root
// @module-tag postgres
// @module-tag nats
// @module-tag bundles
// @module-tag slow

// Faults in a cluster of real processes on PostgreSQL and NATS: every accepted operation ends with a true
// result, nothing is lost, done twice or left over, and a program that can not serve says so.
// CLUSTER_FAULT_ROUNDS plays a long set, each kind of fault equally often, on CLUSTER_FAULT_LANES clusters at
// a time; the first of them has the lease and outages of production. FAULT_SEED=n CLUSTER_FAULT_ROUNDS=1
// repeats one round, CLUSTER_FAULT=name repeats that fault.

import { expect, test } from "vitest";
import { type Lane, openLane } from "../support/cluster/lane.ts";
import { planned, table } from "../support/cluster/plan.ts";
import type { Told } from "../support/cluster/round.ts";
import { clearWires } from "../support/cluster/wires.ts";

const rounds = Number(process.env["CLUSTER_FAULT_ROUNDS"] ?? 0);
const seed = Number(process.env["FAULT_SEED"] ?? Math.floor(Math.random() * 1_000_000));
/** The faults of every run. */
const SHORT = [
  "a worker killed at ship: boot",
  "NATS without its store",
  "PostgreSQL restarted mid-transaction",
];
const TRIES = 3;
const only = process.env["CLUSTER_FAULT"];
const faults = rounds > 0 ? planned(seed, rounds).map((fault) => only ?? fault) : SHORT;
const lanes = Math.min(faults.length, Number(process.env["CLUSTER_FAULT_LANES"] ?? (rounds > 8 ? 3 : 1)));

test("after a fault at a random moment everything is true and nothing is left", {
  retry: 0,
  timeout: (faults.length / lanes + 2) * 300_000,
}, async () => {
  const waiting = faults.map((fault, at) => ({ fault, seed: seed + at, tries: 1 }));
  const held: Told[] = [];
  const failed: string[] = [];
  const began = performance.now();
  await Promise.all(
    Array.from({ length: lanes }, async (_, number) => {
      // A single round may be of either kind; its seed decides.
      const real = rounds > 0 && (lanes > 1 ? number === 0 : seed % 3 === 0);
      let lane: Lane | null = null;
      try {
        for (let next = waiting.shift(); next; next = waiting.shift()) {
          lane ??= await openLane({ number, real, long: rounds > 0 });
          try {
            const told = await lane.play(next.seed, next.fault);
            const became = told.missed ? "held, and played again" : "held";
            process.stderr.write(
              `  cluster ${number}${real ? ", real lease" : ""}: ${told.line}: ${became}\n`,
            );
            if (!told.missed) held.push(told);
            // On a busy machine a fault may take a moment to show.
            else if (next.tries < TRIES)
              waiting.push({ ...next, seed: next.seed + 1_000_000, tries: next.tries + 1 });
          } catch (error) {
            failed.push(String(error));
            process.stderr.write(`  cluster ${number}${real ? ", real lease" : ""}: ${error}: FAILED\n`);
            // What a failed round left behind would make the next one fail.
            await lane.close().catch(() => {});
            lane = null;
          }
        }
      } finally {
        await lane?.close();
      }
    }),
  );
  process.stderr.write(`${table(held, failed.length, (performance.now() - began) / 1000)}\n`);
  expect(failed).toEqual([]);
  expect(held).toHaveLength(faults.length);
  expect(clearWires()).toEqual([]);
});
