// @module-tag slow

// kill -9 at random moments with real processes, a real store and a real queue. FAULT_SEED=n FAULT_ROUNDS=1
// repeats a round; FAULT_DRIVERS=real uses buildah and QEMU.

import { expect, test } from "vitest";
import { type RoundOptions, runRound } from "./support/fault-rounds.ts";

const drivers = process.env["FAULT_DRIVERS"] === "real" ? "real" : "fake";
const seed = Number(process.env["FAULT_SEED"] ?? Math.floor(Math.random() * 1_000_000));
const rounds = Number(process.env["FAULT_ROUNDS"] ?? 5);

const httpd = ["/bin/busybox", "httpd", "-f", "-p"];
const OPTIONS: Record<"fake" | "real", RoundOptions> = {
  fake: {
    drivers: "fake",
    actionMs: 500,
    endMs: 30_000,
    file: (port) => ({
      run: ["sleep 0.1; echo built"],
      expose: [port],
      entrypoint: [...httpd, String(port), "-h", "."],
    }),
  },
  real: {
    drivers: "real",
    actionMs: 8000,
    endMs: 180_000,
    file: () => ({
      run: ["echo built"],
      expose: [8080],
      entrypoint: [...httpd, "8080", "-h", "/"],
      resources: { vcpus: 1, memory_mb: 192, disk_gb: 1 },
    }),
  },
};

test("after kill -9 at a random moment every operation ends truthfully, nothing is doubled and nothing is left", {
  timeout: 3_600_000,
}, async () => {
  for (let round = 0; round < rounds; round++) {
    const told = await runRound(seed + round, OPTIONS[drivers]);
    process.stderr.write(`  ${drivers}: ${told}: held\n`);
    expect(told).toContain(`seed ${seed + round}`);
  }
});
