// What all parts of the QEMU driver share: its settings, its directories, the machines it knows, and the rule that no two
// actions on one machine overlap.

import { join } from "node:path";
import type { Clock, Logger } from "@formation-mcp/contract";
import type { Place, Runner } from "./driver.ts";
import type { Journals } from "./journal.ts";
import type { Leash } from "./leash.ts";
import type { Machine } from "./machine.ts";

export interface Settings {
  stateDir: string;
  /** Where forwarded ports are bound. */
  bindAddress: string;
}

export interface Engine {
  settings: Settings;
  clock: Clock;
  logger: Logger;
  journals: Journals;
  runner: Runner;
  machines: Map<string, Machine>;
  /** Machines whose journal cannot be understood: they can only be removed. */
  broken: Set<string>;
  /** Machines whose logs somebody follows. */
  followed: Map<string, number>;
  /** Ports chosen for a start that is under way, by machine. */
  reserved: Map<string, number[]>;
  /** Leashes of starts that are under way. */
  starting: Set<Leash>;
  /** Tells whoever listens that a machine changed. */
  changed(id: string): void;
  /** A machine's process ended: what it held is taken back, in its turn. */
  ended(id: string): void;
  /** Runs the action after every earlier one on the same machine. */
  serial<T>(id: string, action: () => Promise<T>): Promise<T>;
}

/** A queue per key; a failure of one action does not hold the next. */
export function serialiser(): <T>(key: string, action: () => Promise<T>) => Promise<T> {
  const tails = new Map<string, Promise<unknown>>();
  return (key, action) => {
    const before = tails.get(key) ?? Promise.resolve();
    const result = before.then(action, action);
    const tail = result.catch(() => {});
    tails.set(key, tail);
    void tail.then(() => {
      if (tails.get(key) === tail) tails.delete(key);
    });
    return result;
  };
}

export function placeOf(engine: Pick<Engine, "journals">, id: string): Place {
  const directory = engine.journals.directory(id);
  return { directory, runDirectory: join(directory, "run") };
}
