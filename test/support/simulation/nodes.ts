// The nodes of a simulation: a host with a worker process, and their faults: killed at any step, paused, cut
// off, without power, with a wrong clock, and back again.

import type { Artifacts } from "@formation-mcp/artifacts";
import { type Id, type Logger, newId } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { createWorker, type Worker } from "@formation-mcp/pack-manager";
import type { Bus } from "./bus.ts";
import type { Chance } from "./chance.ts";
import { SCRATCH } from "./files.ts";
import { builderOn } from "./foundry.ts";
import { Host, hypervisorOn } from "./host.ts";
import { elapsed, later, NOWHERE, type Place, placeNamed, resume, trueTime, within } from "./time.ts";
import type { Resources, Truth } from "./truth.ts";
import { type Link, storeOver } from "./wire.ts";

export interface Surroundings {
  store: Store;
  bus: Bus;
  artifacts: Artifacts;
  truth: Truth;
  logger: Logger;
  /** The probability that a process ends at one of its steps. */
  deadly: { likelihood: number };
  trouble: Link["trouble"];
}

/** How long unused things are kept: short, so that a day of retention fits into an hour. */
export const KEPT = { operationKeptMs: 600_000, unusedBuildKeptMs: 120_000, artifactKeptMs: 600_000 };

/** How often a worker polls: seldom, so that lost wake-ups have an effect. */
const POLL_MS = 15_000;

const NEVER = new Promise<never>(() => {});

export class SimulatedNode {
  readonly id: Id<"node">;
  readonly name: string;
  readonly host: Host;
  readonly cut = { store: false, queue: false };
  /** The error of this node's clock, in milliseconds. */
  skewMs = 0;
  /** The rate of its monotonic clock; real crystals differ far less. */
  readonly #rate: number;
  /** An operator keeps it stopped. */
  fenced = false;
  worker: Worker | null = null;
  readonly #surroundings: Surroundings;
  readonly #chance: Chance;
  readonly #labels: Record<string, string>;
  #place: Place | null = null;
  #link: Link | null = null;
  #lives = 0;

  constructor(
    name: string,
    capacity: Resources,
    labels: Record<string, string>,
    given: Surroundings,
    chance: Chance,
  ) {
    this.name = name;
    this.#labels = labels;
    this.#surroundings = given;
    this.#chance = chance;
    this.id = newId("node", { now: trueTime }, (count) => chance.bytes(count));
    this.#rate = chance.between(0.999, 1.001);
    this.host = new Host(name, capacity, given.truth, chance.branch("host"));
  }

  get running(): boolean {
    return this.#place?.alive === true;
  }

  /** Starts the worker process; if it can not start, its supervisor starts it again. */
  start(): void {
    if (this.running || this.fenced || !this.host.power.alive) return;
    const { store, bus, artifacts, logger, trouble } = this.#surroundings;
    const where = placeNamed(`${this.name} #${++this.#lives}`);
    const mishap = (step: string) => this.#mishap(where, step);
    const link: Link = {
      place: where,
      chance: this.#chance.branch(where.name),
      mishap,
      cut: this.cut,
      trouble,
    };
    this.#place = where;
    this.#link = link;
    within(where, () => {
      const worker = createWorker({
        store: storeOver(store, link),
        queue: bus.reach(link),
        artifacts,
        builder: builderOn(this.host, mishap),
        hypervisor: hypervisorOn(this.host, where, mishap),
        scratchDir: `${SCRATCH}/${this.name}`,
        node: {
          id: this.id,
          name: this.name,
          labels: this.#labels,
          capacity: this.host.load.capacity,
          engine: { builder: "simulated", hypervisor: "simulated", accelerator: "tcg", profile: "root" },
          pid: 1,
          program: "1.0.0",
        },
        clock: { now: () => trueTime() + this.skewMs },
        monotonic: () => elapsed() * this.#rate,
        hostBootedAt: () => this.host.bootedAt + this.skewMs,
        logger,
        settings: { ...KEPT, pollEveryMs: POLL_MS },
      });
      this.worker = worker;
      worker.start().catch(() => this.#end(where, 3000));
    });
  }

  /** Ends the worker process like kill -9. Machines keep running. */
  kill(): void {
    if (this.#place) this.#end(this.#place, null);
  }

  /** Asks the worker to end: it gives back operations that it can not finish in time. */
  leave(limitMs: number): void {
    const [where, worker] = [this.#place, this.worker];
    if (!where?.alive || worker === null) return;
    const left = async () => {
      await worker.drain(limitMs);
      await worker.stop();
      this.#end(where, this.#chance.wait(10_000));
    };
    within(where, left).catch((error: Error) =>
      this.host.truth.offence(`${where.name} left: ${error.stack}`),
    );
  }

  pause(): void {
    if (this.#place) this.#place.paused = true;
  }

  resume(): void {
    if (this.#place?.paused) resume(this.#place);
  }

  /** The power fails. */
  fail(): void {
    this.kill();
    this.host.fail();
  }

  boot(): void {
    if (!this.host.power.alive && !this.fenced) this.host.boot();
  }

  async #mishap(where: Place, step: string): Promise<void> {
    if (!where.alive) return NEVER;
    const { deadly, truth } = this.#surroundings;
    if (deadly.likelihood === 0 || !this.#chance.happens(deadly.likelihood)) return;
    truth.count("workers ended at a step");
    truth.note(this.name, `worker ended ${step}`);
    this.#end(where, this.#chance.wait(15_000));
    return NEVER;
  }

  #end(where: Place, backAfterMs: number | null): void {
    if (!where.alive) return;
    where.alive = false;
    this.host.processEnded();
    if (this.#link) this.#surroundings.bus.forget(this.#link);
    if (backAfterMs !== null) later(backAfterMs, NOWHERE, () => this.start());
  }
}
