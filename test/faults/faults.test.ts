// Whatever is killed at whatever moment: every operation ends truthfully, no VM runs twice, nothing is left behind.
// FAULT_SEED=n FAULT_ROUNDS=1 replays a round; `soak` plays more rounds with the real engines.

import { afterAll, describe, test } from "vitest";
import { type FaultOptions, round } from "../support/faults.ts";
import { temporaryState } from "../support/server.ts";

const seed = Number(process.env["FAULT_SEED"] ?? Math.floor(Math.random() * 1_000_000));
const rounds = (fallback: number) => Number(process.env["FAULT_ROUNDS"] ?? fallback);

async function play(count: number, options: FaultOptions): Promise<void> {
  for (let i = 0; i < count; i++) {
    const told = await round(seed + i, options);
    process.stderr.write(`  ${options.drivers}: ${told}: held\n`);
  }
}

describe("After kill -9 at a random moment everything is true and nothing is left:", () => {
  const states: { close(): Promise<void> }[] = [];
  afterAll(async () => {
    for (const state of states) await state.close();
  });
  const open = () => {
    const state = temporaryState();
    states.push(state);
    return state.dir;
  };
  const env = { FORMATION_SWEEP_SECONDS: "1" };

  test("rounds with the fake engines", { timeout: 600_000 }, async () => {
    let port = 20_000 + Math.floor(Math.random() * 20_000);
    await play(rounds(50), {
      stateDir: open(),
      drivers: "fake",
      env,
      actionMs: 600,
      formfile: (variant) => ({
        from: "busybox",
        name: "fault",
        run: [`echo ${variant} > variant`],
        expose: [++port],
        entrypoint: ["/bin/busybox", "httpd", "-f", "-p", String(port), "-h", "."],
        resources: { memory_mb: 64 },
      }),
    });
  });

  test("rounds with buildah and QEMU", { timeout: 3_600_000 }, async () => {
    await play(rounds(8), {
      stateDir: open(),
      drivers: "real",
      env,
      actionMs: 6000,
      formfile: (variant) => ({
        from: "busybox",
        name: "fault",
        run: [`echo ${variant} > variant`],
        expose: [8080],
        entrypoint: ["/bin/httpd", "-f", "-p", "8080", "-h", "."],
        resources: { memory_mb: 192, disk_gb: 1 },
      }),
    });
  });
});
