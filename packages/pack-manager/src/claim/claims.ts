// How operations come to this node: the claim loop, what wakes it, and the offers between nodes.

import { Bell } from "@formation-mcp/base";
import { type ChangeEvent, controlSubject, type Operation, SUBJECTS } from "@formation-mcp/contract";
import type { Consumer } from "@formation-mcp/queue";
import type { WorkerDeps } from "../deps.ts";
import { createClaimLoop } from "./claim-loop.ts";
import { createClaimer } from "./claimer.ts";
import { createHandOver } from "./hand-over.ts";
import type { RunningAttempts } from "./running-attempts.ts";
import { createWakeConsumer } from "./wake-consumer.ts";
import { createWorkOffers } from "./work-offers.ts";

export interface Claims {
  /**
   * Begins to claim and to take wake-ups.
   * @throws FormationError `unavailable` if the queue can't be used.
   */
  start(): Promise<void>;
  /** Claims soon: there may be something to claim. */
  wake(): void;
  /** Says whether this node takes operations that are not pinned to it. */
  setTakesUnpinned(takes: boolean): void;
  /** Handles an event: an operation that runs here may be cancelled, an offered one may suit this node. */
  changed(event: ChangeEvent): void;
  /** Offers a queued operation to all nodes that it suits, in place of a wake-up by the queue. */
  offer(operation: Operation): Promise<void>;
  /** Claims nothing more. */
  close(): void;
  /** Resolves when no claim is under way and no attempt runs. */
  ended(): Promise<void>;
}

/** @param ensureHeard makes sure that other nodes do not take this one for dead. */
export function createClaims(
  deps: WorkerDeps,
  attempts: RunningAttempts,
  ensureHeard: () => Promise<void>,
): Claims {
  const { store, queue, node } = deps;
  const bell = new Bell();
  const wake = () => bell.ring();
  const offers = createWorkOffers(deps, wake);
  const claimer = createClaimer(deps, { attempts, offers, ensureHeard });
  const loop = createClaimLoop(deps, bell, claimer.claimNext);
  const handOver = createHandOver(deps, { loop, attempts, offers });
  const consume = (subject: string) =>
    createWakeConsumer(deps, { subject, onWake: handOver.onWake, onMissed: wake });
  const ships = consume(SUBJECTS.ship);
  const builds = consume(SUBJECTS.build);
  /** Takes the wake-ups for this node alone, always. */
  let pinned: Consumer | null = null;
  let closed = false;

  loop.onRound(() => {
    const isOpen = loop.isAnswered() && !closed;
    const wanted = claimer.wanted();
    ships.setOpen(isOpen && wanted.ships);
    builds.setOpen(isOpen && wanted.builds);
  });
  attempts.onEnded(async (ended) => {
    wake();
    const operation = await store.operation(null, ended.id);
    if (operation.state === "queued") loop.wakeAt(operation.run_at);
    else await handOver.onEnded(operation);
  });

  return {
    async start() {
      pinned = await queue.consume([controlSubject(node.id)], { slots: 1, missed: wake }, loop.round);
      loop.start();
    },
    wake,
    setTakesUnpinned(takes) {
      if (claimer.setTakesUnpinned(takes) || !loop.isAnswered()) wake();
    },
    changed(event) {
      attempts.refresh(event.id);
      offers.onEvent(event);
    },
    offer: offers.offer,
    close() {
      closed = true;
      offers.close();
      loop.close();
    },
    async ended() {
      await loop.ended();
      await Promise.all([builds.close(), ships.close(), pinned?.close()]);
      pinned = null;
      await attempts.ended();
    },
  };
}
