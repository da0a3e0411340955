// Virtual time: every timer of this process goes into one queue and fires in order, as fast as the code runs.
// A timer belongs to the place (a simulated process) that made it: it waits while the place is paused, and
// never fires after the place is dead.

import { AsyncLocalStorage } from "node:async_hooks";
import { syncBuiltinESMExports } from "node:module";
import timersPromises from "node:timers/promises";

/** A simulated process, or a host: when it is dead, its timers are dropped. */
export interface Place {
  readonly name: string;
  alive: boolean;
  paused: boolean;
  readonly parked: Timer[];
}

export function placeNamed(name: string): Place {
  return { name, alive: true, paused: false, parked: [] };
}

/** The place of everything that is not a simulated process: networks, databases, the experiment itself. */
export const NOWHERE = placeNamed("nowhere");
/** A moment in 2026, so that ids and times look like those of a real day. */
const BEGIN = 1_790_000_000_000;
/** This many timers at one moment are an endless loop. */
const STUCK = 2_000_000;

const here = new AsyncLocalStorage<Place>();
const realSetImmediate = setImmediate;
const realPerformance = performance.now.bind(performance);

class Timer {
  at: number;
  readonly order: number;
  readonly place: Place;
  readonly every: number | null;
  act: (() => void) | null;

  constructor(at: number, place: Place, every: number | null, act: () => void) {
    this.at = at;
    this.order = made++;
    this.place = place;
    this.every = every;
    this.act = act;
  }

  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
  hasRef(): boolean {
    return true;
  }
  [Symbol.toPrimitive](): number {
    return this.order;
  }
}

let made = 0;
let now = 0;
let heap: Timer[] = [];
let cancelled = 0;

const before = (a: Timer, b: Timer) => a.at < b.at || (a.at === b.at && a.order < b.order);

function push(timer: Timer): void {
  let at = heap.length;
  heap.push(timer);
  while (at > 0) {
    const up = (at - 1) >> 1;
    const parent = heap[up] as Timer;
    if (!before(timer, parent)) break;
    heap[at] = parent;
    at = up;
  }
  heap[at] = timer;
}

function pop(): Timer | undefined {
  const first = heap[0];
  const last = heap.pop();
  if (first === undefined || last === undefined || first === last) return first;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && before(heap[child + 1] as Timer, heap[child] as Timer)) child++;
    if (!before(heap[child] as Timer, last)) break;
    heap[at] = heap[child] as Timer;
    at = child;
  }
  heap[at] = last;
  return first;
}

function add(ms: number, every: boolean, act: () => void): Timer {
  const wait = Math.max(ms || 0, 1);
  const timer = new Timer(now + wait, here.getStore() ?? NOWHERE, every ? wait : null, act);
  push(timer);
  return timer;
}

/** The timer will not fire. */
export function cancel(timer: unknown): void {
  if (!(timer instanceof Timer) || timer.act === null) return;
  timer.act = null;
  // Distant deadlines are cancelled often, so cancelled timers are removed early.
  if (++cancelled < 1000 || cancelled < heap.length / 2) return;
  const kept = heap.filter((each) => each.act !== null);
  heap = [];
  cancelled = 0;
  for (const each of kept) push(each);
}

/** How many steps run between two turns of the real event loop. */
const STEPS_A_TURN = 500;
const turn = () => new Promise<void>((resolve) => realSetImmediate(resolve));
/**
 * Resolves when no promise has work left: setImmediate comes after all of them. What it starts may run beside
 * the next timer, but in the same order each time, because nothing here waits for the real world.
 */
const drained = () => new Promise<void>((resolve) => process.nextTick(resolve));

/** Milliseconds since the experiment began. */
export function elapsed(): number {
  return now;
}

/** Milliseconds since the epoch on a correct clock. */
export function trueTime(): number {
  return Math.floor(BEGIN + now);
}

/** Milliseconds of real time, for measurements. */
export const realNow = realPerformance;

/** Runs an action in a place: the timers that it makes, then and later, belong to that place. */
export function within<T>(where: Place, action: () => T): T {
  return here.run(where, action);
}

/** Runs an action in a place after a delay. */
export function later(ms: number, where: Place, action: () => void): object {
  const timer = new Timer(now + Math.max(ms, 0), where, null, action);
  push(timer);
  return timer;
}

/** Resolves after a delay, in the place that waits. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void add(ms, false, resolve));
}

/** Resumes a paused place with the timers that it missed. */
export function resume(where: Place): void {
  where.paused = false;
  for (const timer of where.parked.splice(0)) {
    timer.at = now;
    push(timer);
  }
}

/** Runs timers until the condition is true. @throws if no timers are left, or time does not advance. */
export async function passUntil(done: () => boolean): Promise<void> {
  let still = 0;
  for (let steps = 1; !done(); steps++) {
    const timer = pop();
    if (timer === undefined)
      throw new Error("Nothing is waited for any more, and the experiment is not over.");
    const { act, place: where } = timer;
    if (act === null) {
      cancelled--;
      continue;
    }
    if (!where.alive) continue;
    if (where.paused) {
      where.parked.push(timer);
      continue;
    }
    still = timer.at > now ? 0 : still + 1;
    if (still > STUCK) throw new Error(`Time stands still in ${where.name}.`);
    now = Math.max(now, timer.at);
    if (timer.every === null) timer.act = null;
    else {
      timer.at = now + timer.every;
      push(timer);
    }
    here.run(where, act);
    await (steps % STEPS_A_TURN === 0 ? turn() : drained());
  }
}

/** Replaces real time by virtual time for the rest of this process. */
export function install(random: () => number): void {
  const once = (act: (...given: unknown[]) => void, ms?: number, ...given: unknown[]) =>
    add(ms ?? 0, false, () => act(...given));
  Object.assign(globalThis, {
    setTimeout: once,
    setInterval: (act: (...given: unknown[]) => void, ms?: number, ...given: unknown[]) =>
      add(ms ?? 0, true, () => act(...given)),
    setImmediate: (act: (...given: unknown[]) => void, ...given: unknown[]) => once(act, 0, ...given),
    clearTimeout: cancel,
    clearInterval: cancel,
    clearImmediate: cancel,
  });
  Date.now = trueTime;
  Math.random = random;
  crypto.getRandomValues = <T extends ArrayBufferView | null>(array: T): T => {
    if (array instanceof Uint8Array) for (let at = 0; at < array.length; at++) array[at] = random() * 256;
    return array;
  };
  Object.defineProperty(performance, "now", { value: () => now });
  Object.assign(timersPromises, { setTimeout: delay, setImmediate: () => delay(0) });
  syncBuiltinESMExports();
}

function delay<T>(ms = 0, value?: T, options: { signal?: AbortSignal } = {}): Promise<T | undefined> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    const aborted = () => {
      cancel(timer);
      reject(Object.assign(new Error("The operation was aborted."), { name: "AbortError" }));
    };
    const timer = add(ms, false, () => {
      signal?.removeEventListener("abort", aborted);
      resolve(value);
    });
    if (signal?.aborted) aborted();
    else signal?.addEventListener("abort", aborted, { once: true });
  });
}
