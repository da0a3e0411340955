// The record of this node in the store: its heartbeat, and what an admin asks of the node (cordon, drain).

import type { WorkerDeps } from "../deps.ts";

/** What one renewal of the record tells. */
interface Renewal {
  /** Whether the node may claim operations that are not pinned to it. */
  takesUnpinned: boolean;
  /** Whether the node was silent for so long that other nodes have marked its instances `lost`. */
  wasSilent: boolean;
}

export interface Registration {
  /**
   * Writes the record with a new heartbeat, and reads what an admin asks.
   * @throws FormationError `unavailable` if the store does not answer.
   */
  renew(): Promise<void>;
  /**
   * Renews the record if the last renewal is so old that other nodes may soon take this node for dead.
   * @throws FormationError `unavailable` if the store does not answer.
   */
  ensureHeard(): Promise<void>;
  /** Like `renew`; from now on the record says that the worker drains. */
  startDraining(): Promise<void>;
  /** Calls back after each renewal. */
  onRenewed(listener: (renewal: Renewal) => void): void;
}

export function createRegistration(
  deps: Pick<WorkerDeps, "store" | "node" | "monotonic" | "settings">,
): Registration {
  const { store, node, monotonic, settings } = deps;
  const listeners: ((renewal: Renewal) => void)[] = [];
  let draining = false;
  /** When the record was last renewed, by the monotonic clock. */
  let heardAt = monotonic();

  const renew = async () => {
    const { cordoned, drain } = await store.registerNode({ ...node, draining });
    const silentMs = monotonic() - heardAt;
    heardAt = monotonic();
    const renewal = {
      takesUnpinned: !cordoned && drain === null,
      wasSilent: silentMs >= settings.nodeSilentMs,
    };
    for (const listener of listeners) listener(renewal);
  };
  return {
    renew,
    async ensureHeard() {
      if (monotonic() - heardAt >= settings.nodeSilentMs / 2) await renew();
    },
    async startDraining() {
      draining = true;
      await renew();
    },
    onRenewed: (listener) => void listeners.push(listener),
  };
}
