// What is looked at every other second: processes that ended unseen, control sockets that were lost, logs that grow while
// nobody follows them. Nothing else polls.

import { boundLogs, UNFOLLOWED_BYTES } from "../logs/follow.ts";
import { type Engine, placeOf } from "./deps.ts";
import { reattach } from "./recover.ts";
import { release } from "./start.ts";

const EVERY_MS = 2000;
/** In rounds: once a minute. */
const RESTORE_EVERY = 30;

/** Begins; returns the way to end it. */
export function keepUp(engine: Engine): () => Promise<void> {
  let running: Promise<void> = Promise.resolve();
  let busy = false;
  let rounds = 0;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    running = round(engine, ++rounds % RESTORE_EVERY === 0).finally(() => {
      busy = false;
    });
  }, EVERY_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
    return running;
  };
}

async function round(engine: Engine, restore: boolean): Promise<void> {
  if (restore) {
    await engine.runner.restore().catch((error: unknown) => {
      engine.logger.log("warn", "The machines' rules could not be checked.", { error: String(error) });
    });
  }
  for (const [id, machine] of engine.machines) {
    try {
      machine.settle();
      machine.catchUp();
      if (!machine.alive) continue;
      machine.readStatus();
      if (machine.journal.phase === "running" && machine.qmp === null) {
        await engine.serial(id, async () => {
          if (machine.alive && machine.qmp === null) await reattach(engine, machine);
        });
      }
      await machine.boundStatus();
      if (!engine.followed.has(id)) {
        const place = placeOf(engine, id);
        await boundLogs(place.directory, place.runDirectory, UNFOLLOWED_BYTES);
      }
    } catch (error) {
      engine.logger.log("warn", "A machine could not be looked after.", {
        machine: id,
        error: String(error),
      });
    }
  }
}

/** Takes back what a machine held that ended by itself, unless it was started again meanwhile. */
export async function freed(engine: Engine, id: string): Promise<void> {
  const machine = engine.machines.get(id);
  if (machine && machine.journal.phase === "stopped") await release(engine, machine.journal);
}
