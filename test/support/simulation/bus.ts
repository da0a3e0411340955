// The queue of the simulation: the embedded queue behind a simulated network that loses, duplicates, delays
// and reorders messages, and delivers them to processes that may be dead, paused or cut off. Events are not
// stored, as over a real network; this file delivers them itself.

import type { ChangeEvent, Id, WakeMessage } from "@formation-mcp/contract";
import { ALL_NODES, FormationError, SUBJECTS } from "@formation-mcp/contract";
import type { Consumer, Queue } from "@formation-mcp/queue";
import { type Chance, hash } from "./chance.ts";
import { cancel, later, NOWHERE, pause, within } from "./time.ts";
import type { Truth } from "./truth.ts";
import { type Link, overWire } from "./wire.ts";

interface Taker {
  link: Link;
  subjects: ReadonlySet<string>;
  slots: number;
  busy: number;
  handler: (message: WakeMessage, subject: string) => Promise<void>;
}

interface Listener {
  link: Link;
  /** The node of the worker; a server receives all events. */
  node: Id<"node"> | undefined;
  tell: (event: ChangeEvent) => void;
}

export interface Troubles {
  lost: number;
  doubled: number;
  late: number;
  lateMs: number;
}

/** One embedded queue serves this many nodes, although it is made for one machine. */
export const NODES_A_QUEUE = 32;

export interface Bus {
  /** The queue as one process reaches it. */
  reach(link: Link): Queue;
  /** Removes the consumers and subscriptions of a process that ended. */
  forget(link: Link): void;
  troubles: Troubles;
}

/** One subject replaces that of each node: the embedded queue is not made for hundreds of subjects. */
const CONTROL = "vm.control.any";
const SLOTS = 64;
/** A message without an acknowledgement is delivered again after this time. */
const ACK_MS = 10_000;

export async function openBus(queues: readonly Queue[], truth: Truth, chance: Chance): Promise<Bus> {
  const takers = new Map<string, Taker[]>();
  /** By node; those of servers under `undefined`. */
  const listeners = new Map<Id<"node"> | undefined, Set<Listener>>();
  const routes = new Map<string, string>();
  const troubles: Troubles = { lost: 0, doubled: 0, late: 0, lateMs: 20_000 };

  const deliver = async (message: WakeMessage, subject: string) => {
    const able = (takers.get(subject) ?? []).filter(
      ({ busy, slots, link }) => busy < slots && link.place.alive,
    );
    if (able.length === 0) throw new FormationError("unavailable", "Nobody takes it.");
    const taker = chance.pick(able);
    taker.busy++;
    const taken = new Promise<void>((resolve, reject) => {
      const { link } = taker;
      const limit = later(ACK_MS, NOWHERE, () =>
        reject(new FormationError("unavailable", "Nobody acknowledged it.")),
      );
      if (link.cut.queue) return;
      later(chance.between(0.1, 2), link.place, () => {
        cancel(limit);
        taker.handler(message, subject).then(resolve, reject);
      });
    });
    await taken.finally(() => void taker.busy--);
  };
  const spread = (event: ChangeEvent) => {
    const wait = chance.happens(troubles.late) ? chance.between(1, troubles.lateMs) : chance.between(0.2, 3);
    const whose = event.for === undefined ? [undefined] : [undefined, event.for];
    later(wait, NOWHERE, () => {
      for (const node of event.for === ALL_NODES ? listeners.keys() : (whose as Id<"node">[])) {
        for (const listener of listeners.get(node) ?? []) hear(listener, event);
      }
    });
  };
  const hear = ({ link, tell }: Listener, event: ChangeEvent) => {
    const { place, cut } = link;
    if (!place.alive || place.paused || cut.queue) return;
    if (troubles.lost > 0 && chance.happens(troubles.lost)) return truth.count("events lost");
    within(place, () => tell(event));
  };
  const subjects = [SUBJECTS.build, SUBJECTS.ship, CONTROL];
  for (const queue of queues) {
    await queue.consume(subjects, { slots: SLOTS }, (message, subject) =>
      deliver(message, subject === CONTROL ? (routes.get(message.operation_id) ?? CONTROL) : subject),
    );
  }
  const queueOf = (id: string) => queues[hash(id) % queues.length] as Queue;

  const publish = async (subject: string, id: string, message: WakeMessage) => {
    const control = subject.startsWith("vm.control.");
    if (control) routes.set(message.operation_id, subject);
    const send = (name: string) =>
      queueOf(message.operation_id)
        .publish(control ? CONTROL : subject, name, message)
        .catch(() => undefined);
    if (chance.happens(troubles.lost)) return truth.count("messages lost");
    if (chance.happens(troubles.late)) {
      truth.count("messages late");
      later(chance.between(1, troubles.lateMs), NOWHERE, () => void send(id));
    } else await send(id);
    if (!chance.happens(troubles.doubled)) return;
    truth.count("messages doubled");
    later(chance.between(1, troubles.lateMs), NOWHERE, () => void send(`${id}.again`));
  };

  const reach = (link: Link): Queue => ({
    publish: (subject, id, message) =>
      overWire(link, "queue", "publish", () => publish(subject, id, message)),
    async consume(wanted, { slots }, handler): Promise<Consumer> {
      await pause(1);
      const taker: Taker = { link, subjects: new Set(wanted), slots, busy: 0, handler };
      for (const subject of wanted) takers.set(subject, [...(takers.get(subject) ?? []), taker]);
      const close = async () => drop(takers, (each) => each === taker);
      return { close, [Symbol.asyncDispose]: close };
    },
    async emit(event) {
      if (link.cut.queue) return;
      spread(event);
    },
    async subscribe(tell, node) {
      const listener = { link, tell, node };
      const there = listeners.get(node) ?? new Set();
      listeners.set(node, there.add(listener));
      return { [Symbol.asyncDispose]: async () => void there.delete(listener) };
    },
    deadLetters: async (limit) => (await Promise.all(queues.map((queue) => queue.deadLetters(limit)))).flat(),
    sweep: () =>
      overWire(link, "queue", "sweep", async () => {
        for (const queue of queues) await queue.sweep();
      }),
    close: async () => {},
  });
  return {
    reach,
    troubles,
    forget(link) {
      drop(takers, (taker) => taker.link === link);
      for (const there of listeners.values())
        for (const listener of there) if (listener.link === link) there.delete(listener);
    },
  };
}

function drop(takers: Map<string, Taker[]>, which: (taker: Taker) => boolean): void {
  for (const [subject, list] of takers) {
    if (list.some(which))
      takers.set(
        subject,
        list.filter((taker) => !which(taker)),
      );
  }
}
