// Work that is due and that this node did not claim: it is offered to the other nodes. It comes from a
// wake-up, or it waited for an operation that has ended here.

import { FormationError, type Operation, type WakeMessage } from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";
import { unfinishedOperations } from "../node/records.ts";
import type { ClaimLoop } from "./claim-loop.ts";
import type { RunningAttempts } from "./running-attempts.ts";
import type { WorkOffers } from "./work-offers.ts";

export interface HandOver {
  /** Handles a wake-up: claims what fits here, and offers the operation to all if it was not claimed. */
  onWake(message: WakeMessage): Promise<void>;
  /** Does the same with the operation that waited for this one, which has ended. */
  onEnded(operation: Operation): Promise<void>;
}

export interface HandOverParts {
  loop: ClaimLoop;
  attempts: RunningAttempts;
  offers: WorkOffers;
}

export function createHandOver(
  deps: Pick<WorkerDeps, "store" | "clock">,
  { loop, attempts, offers }: HandOverParts,
): HandOver {
  const offerIfDue = async (operation: Operation) => {
    if (operation.state === "queued" && operation.run_at <= deps.clock.now()) await offers.offer(operation);
  };
  return {
    async onWake({ operation_id }) {
      await loop.round();
      if (attempts.operations().some(({ id }) => id === operation_id)) return;
      try {
        await offerIfDue(await deps.store.operation(null, operation_id));
      } catch (thrown) {
        // The store did not answer, so this node does not know what the operation needs. Another node may.
        if (FormationError.from(thrown).code !== "not_found") await offers.offerUnknown(operation_id);
      }
    },
    async onEnded({ input }) {
      if (input.kind === "build") return;
      await loop.round();
      const next = (await unfinishedOperations(deps, input.instance_id)).at(-1);
      if (next) await offerIfDue(next);
    },
  };
}
