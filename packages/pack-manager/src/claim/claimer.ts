// What this node may claim now: by its slots, by its free capacity, and by whether it takes unpinned work.

import { controlSubject, SUBJECTS } from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";
import { freeCapacity } from "./capacity.ts";
import type { RunningAttempts } from "./running-attempts.ts";
import type { WorkOffers } from "./work-offers.ts";

export interface Claimer {
  /**
   * Claims the oldest operation that fits and starts its attempt.
   * @returns false if no slot is free or nothing fits.
   * @throws FormationError `unavailable` if the store does not answer.
   */
  claimNext(): Promise<boolean>;
  /** Which wake-ups for any node are worth taking, by the capacity that was free at the last claim. */
  wanted(): { ships: boolean; builds: boolean };
  /**
   * Says whether this node takes operations that are not pinned to it.
   * @returns whether that changed.
   */
  setTakesUnpinned(takes: boolean): boolean;
}

export interface ClaimerParts {
  attempts: RunningAttempts;
  offers: WorkOffers;
  /** Makes sure that other nodes do not take this one for dead: they would mark what it starts as lost. */
  ensureHeard(): Promise<void>;
}

export function createClaimer(deps: WorkerDeps, { attempts, offers, ensureHeard }: ClaimerParts): Claimer {
  const { store, node, settings } = deps;
  const pinned = controlSubject(node.id);
  let takesUnpinned = true;
  let free = node.capacity;

  const hasSlot = () => attempts.count() < settings.slots;
  const hasBuildSlot = () => attempts.builds() < settings.buildSlots;
  const subjects = () => {
    if (!takesUnpinned) return [pinned];
    return [pinned, SUBJECTS.ship, ...(hasBuildSlot() ? [SUBJECTS.build] : [])];
  };
  return {
    async claimNext() {
      if (!hasSlot()) return false;
      await ensureHeard();
      free = await freeCapacity(deps, attempts.operations());
      const claimedAt = deps.monotonic();
      const operation = await store.claim({
        node_id: node.id,
        subjects: subjects(),
        labels: node.labels,
        free,
        leaseMs: settings.leaseMs,
      });
      if (operation === null) return false;
      attempts.start(operation, claimedAt);
      offers.taken(operation);
      return true;
    },
    wanted() {
      const hasCapacity = free.vcpus > 0 && free.memory_mb > 0 && free.disk_gb > 0;
      const ships = takesUnpinned && hasSlot() && hasCapacity;
      return { ships, builds: ships && hasBuildSlot() };
    },
    setTakesUnpinned(takes) {
      const changes = takesUnpinned !== takes;
      takesUnpinned = takes;
      return changes;
    },
  };
}
