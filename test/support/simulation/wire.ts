// The connection between a process and the store: requests and answers take time, come late or are lost, and
// a process may die at either end. After an unanswered call the caller does not know whether it took effect.

import { FormationError } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import type { Chance } from "./chance.ts";
import type { Mishap } from "./host.ts";
import { cancel, later, NOWHERE, type Place, within } from "./time.ts";

export interface Link {
  readonly place: Place;
  readonly chance: Chance;
  readonly mishap: Mishap;
  /** The places that are cut off now. */
  readonly cut: { store: boolean; queue: boolean };
  /** The probability that a request or an answer is lost or late, and the longest delay. */
  readonly trouble: { lost: number; late: number; lateMs: number };
}

/** How long a process waits for an answer. */
const TIMEOUT_MS = 8000;

/** Sends a request and returns its answer, if it comes in time. */
export function overWire<T>(
  link: Link,
  which: "store" | "queue",
  name: string,
  action: () => Promise<T>,
): Promise<T> {
  const { place, chance, cut, trouble } = link;
  const travel = () => {
    if (cut[which] || chance.happens(trouble.lost)) return null;
    return chance.happens(trouble.late) ? chance.between(1, trouble.lateMs) : chance.between(0.1, 1.5);
  };
  return new Promise((resolve, reject) => {
    let over = false;
    const answer = (act: () => void) => {
      if (over) return;
      over = true;
      cancel(limit);
      act();
    };
    const limit = later(TIMEOUT_MS, place, () =>
      answer(() => reject(new FormationError("unavailable", `The ${which} does not answer.`))),
    );
    const arrive = async () => {
      const [value, error] = await action().then(
        (value) => [value, null] as const,
        (error: Error) => [null, error] as const,
      );
      const back = travel();
      if (back === null) return;
      later(back, place, () => {
        void link
          .mishap(`after ${name}`)
          .then(() => answer(() => (error ? reject(error) : resolve(value as T))));
      });
    };
    void link.mishap(`before ${name}`).then(() => {
      const there = travel();
      if (there !== null) later(there, NOWHERE, () => void within(NOWHERE, arrive));
    });
  });
}

const PARTS = ["documents", "counters", "audit"];

/** The store as one process sees it. */
export function storeOver(store: Store, link: Link): Store {
  let revision = 0;
  const wired = <P extends object>(part: P, prefix: string): P =>
    new Proxy(part, {
      get(target, name: string) {
        const member = Reflect.get(target, name) as unknown;
        if (PARTS.includes(name) && prefix === "") return wired(member as object, `${name}.`);
        if (name === "revision") {
          return () => {
            if (!link.cut.store) revision = store.revision();
            return revision;
          };
        }
        if (name === "close") return async () => {};
        if (typeof member !== "function") return member;
        return (...given: unknown[]) =>
          overWire(link, "store", `${prefix}${name}`, async () => Reflect.apply(member, target, given));
      },
    });
  return wired(store, "");
}
