// Many rounds on one state directory, each replayable: FAULT_SEED=n FAULT_ROUNDS=1 plays one again.

import { type FaultOptions, type FaultSession, round } from "./faults.ts";
import { temporaryState, temporaryStateWithKernel } from "./server.ts";

/** Plays rounds and reports each; `FAULT_ROUNDS` overrides the count. */
export async function play(count: number, options: Omit<FaultOptions, "stateDir" | "env">): Promise<void> {
  const seed = Number(process.env["FAULT_SEED"] ?? Math.floor(Math.random() * 1_000_000));
  const rounds = Number(process.env["FAULT_ROUNDS"] ?? count);
  const state = options.drivers === "real" ? await temporaryStateWithKernel() : temporaryState();
  const session: FaultSession = { peer: null, checked: new Set() };
  try {
    for (let i = 0; i < rounds; i++) {
      const env = { FORMATION_SWEEP_SECONDS: "1" };
      const told = await round(seed + i, { ...options, stateDir: state.dir, env }, session);
      process.stderr.write(`  ${options.drivers}: ${told}: held\n`);
    }
  } finally {
    await session.peer?.close().catch(() => {});
    await state.close();
  }
}
