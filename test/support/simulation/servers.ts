// The servers of a simulation, and how a client reaches one: a call may meet a server that is down, or the
// request or the answer may be lost; then the client does not know whether the call took effect.

import type { Artifacts } from "@formation-mcp/artifacts";
import type { Principal } from "@formation-mcp/auth";
import { FormationError, type Quota } from "@formation-mcp/contract";
import {
  type Control,
  createControl,
  createNodes,
  createQuotas,
  type Nodes,
  startDrainer,
  startMaintenance,
} from "@formation-mcp/control";
import type { Chance } from "./chance.ts";
import { KEPT, type Surroundings } from "./nodes.ts";
import { cancel, later, NOWHERE, type Place, placeNamed, trueTime, within } from "./time.ts";
import { type Link, storeOver } from "./wire.ts";

/** The interface of a server for its callers. */
interface Doors {
  control: Control;
  nodes: Nodes;
}

export class SimulatedServer {
  readonly name: string;
  readonly cut = { store: false, queue: false };
  /** The error of this server's clock, in milliseconds. */
  skewMs = 0;
  readonly #surroundings: Surroundings & { artifacts: Artifacts; quota: Quota };
  readonly #chance: Chance;
  #place: Place | null = null;
  #link: Link | null = null;
  #doors: Doors | null = null;
  #lives = 0;
  readonly #open = new Set<() => void>();

  constructor(name: string, given: Surroundings & { quota: Quota }, chance: Chance) {
    this.name = name;
    this.#surroundings = given;
    this.#chance = chance;
  }

  start(): void {
    if (this.#place?.alive) return;
    const { store, bus, artifacts, logger, trouble, quota } = this.#surroundings;
    const where = placeNamed(`${this.name} #${++this.#lives}`);
    const mishap = async () => {
      if (!where.alive) await new Promise<never>(() => {});
    };
    const link: Link = {
      place: where,
      chance: this.#chance.branch(where.name),
      mishap,
      cut: this.cut,
      trouble,
    };
    this.#place = where;
    this.#link = link;
    const clock = { now: () => trueTime() + this.skewMs };
    const wired = storeOver(store, link);
    const queue = bus.reach(link);
    const control = createControl({
      store: wired,
      queue,
      artifacts,
      clock,
      logger,
      random: (count) => this.#chance.bytes(count),
      quotas: createQuotas({ documents: wired.documents, defaults: quota, clock }),
      buildNeeds: { vcpus: 1, memory_mb: 1024, disk_gb: 1 },
    });
    within(where, () => {
      startMaintenance({ store: wired, queue, artifacts, ...KEPT });
      startDrainer({ store: wired, queue, artifacts, logger });
    });
    this.#doors = { control, nodes: createNodes({ store: wired, queue, clock }) };
  }

  kill(): void {
    if (!this.#place?.alive) return;
    this.#place.alive = false;
    if (this.#link) this.#surroundings.bus.forget(this.#link);
    for (const lose of [...this.#open]) lose();
    later(this.#chance.wait(3000), NOWHERE, () => this.start());
  }

  /** Calls a tool. @throws Lost if there is no answer. */
  call(principal: Principal, tool: string, input: unknown): Promise<Record<string, unknown>> {
    return this.reach(({ control }) => control.call(principal, tool, input));
  }

  /** Sends a request to one of its interfaces. @throws Lost if there is no answer. */
  reach<T>(ask: (doors: Doors) => Promise<T>): Promise<T> {
    const { trouble } = this.#surroundings;
    const lost = () => this.#chance.happens(trouble.lost);
    return new Promise((resolve, reject) => {
      const lose = () => {
        cancel(limit);
        this.#open.delete(lose);
        later(1, NOWHERE, () => reject(new Lost()));
      };
      const limit = later(60_000, NOWHERE, lose);
      this.#open.add(lose);
      later(this.#chance.between(0.2, 2), NOWHERE, () => {
        const where = this.#place;
        const doors = this.#doors;
        if (!where?.alive || doors === null || lost()) return lose();
        const answer = (act: () => void) =>
          later(this.#chance.between(0.2, 2), where, () => {
            if (lost()) return lose();
            cancel(limit);
            this.#open.delete(lose);
            act();
          });
        within(where, () => ask(doors)).then(
          (result) => void answer(() => resolve(result)),
          (error: unknown) => void answer(() => reject(error)),
        );
      });
    });
  }
}

/** The connection ended before the answer came. */
export class Lost extends FormationError {
  constructor() {
    super("unavailable", "The server did not answer.");
  }
}
