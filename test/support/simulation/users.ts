// The users of a simulation: each has an account, asks for one thing after the other, and repeats what got no answer under
// the same key, as clients are told to. What they were told is what must be true in the end.

import { allScopes, type Principal } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import type { Chance } from "./chance.ts";
import { Lost, type SimulatedServer } from "./servers.ts";
import { NOWHERE, pause, within } from "./time.ts";
import type { Truth } from "./truth.ts";

export interface Crowd {
  servers: SimulatedServer[];
  truth: Truth;
  /** Ids of operations that somebody was told of. */
  accepted: Set<string>;
  /** Milliseconds between two wishes of one user. */
  thinkMs: number;
  /** How many instances a user likes to have. */
  instances: number;
  isOver(): boolean;
}

type Answer = Record<string, unknown>;
const CONTROLS = ["stop", "start", "restart", "pause", "resume"] as const;
/** What a caller's own mistake or bad luck may answer; the rest is an offence. */
const FAIR = new Set(["conflict", "limit", "not_found", "unavailable", "cancelled"]);
const TRIES = 8;

export class User {
  readonly principal: Principal;
  readonly #crowd: Crowd;
  readonly #chance: Chance;
  readonly #names = new Set<string>();
  readonly #builds: string[] = [];
  readonly #operations: string[] = [];
  #wishes = 0;

  constructor(owner: string, crowd: Crowd, chance: Chance) {
    this.principal = { owner, scopes: allScopes(), local: false };
    this.#crowd = crowd;
    this.#chance = chance;
  }

  async live(): Promise<void> {
    await within(NOWHERE, async () => {
      while (!this.#crowd.isOver()) {
        await pause(this.#chance.wait(this.#crowd.thinkMs));
        if (!this.#crowd.isOver()) await this.#wish();
      }
    });
  }

  async #wish(): Promise<void> {
    const chance = this.#chance;
    const name = this.#names.size > 0 ? chance.pick([...this.#names]) : null;
    const build = this.#builds.length > 0 ? chance.pick(this.#builds) : null;
    const last = this.#operations.at(-1);
    const full = this.#names.size >= this.#crowd.instances;
    const roll = chance.next();
    if (roll < 0.05 && last) return this.#cancel(last);
    if (roll < 0.17 || build === null) return this.#build();
    if (roll < 0.42 && (!full || chance.happens(0.1))) return this.#make(build);
    if (name === null) return this.#make(build);
    if (roll < 0.55) return this.#ship(build, name, true);
    if (full ? roll < 0.8 : roll < 0.65) return this.#remove(name);
    const action = chance.pick(CONTROLS);
    await this.#ask("vm_control", { instance: name, action });
  }

  async #cancel(operation: string): Promise<void> {
    await this.#ask("operation_cancel", { operation_id: operation });
  }

  async #build(): Promise<void> {
    const chance = this.#chance;
    const run = chance.happens(0.1) ? ["echo begin", "false"] : [`echo ${chance.whole(1, 5)}`];
    const formfile = { from: "busybox", name: `app-${chance.whole(1, 9)}`, run, expose: [8080] };
    const answer = await this.#ask("pack_build", { formfile, wait_seconds: chance.pick([0, 0, 10]) });
    if (typeof answer?.["build_id"] === "string") this.#builds.push(answer["build_id"]);
    if (this.#builds.length > 8) this.#builds.shift();
  }

  async #make(build: string): Promise<void> {
    const name = `vm-${this.#chance.whole(1, this.#crowd.instances * 2)}`;
    if (this.#chance.happens(0.6)) return this.#ship(build, name, false);
    const asked = { image: "busybox", expose: [80], instance_name: name, vm_config: this.#size() };
    await this.#named(name, "vm_create", asked);
  }

  async #ship(build: string, name: string, replace: boolean): Promise<void> {
    const vm_config = this.#size();
    await this.#named(name, "pack_ship", { build_id: build, instance_name: name, replace, vm_config });
  }

  async #remove(name: string): Promise<void> {
    const answer = await this.#ask("vm_delete", { instance: name, confirm: name });
    if (answer) this.#names.delete(name);
  }

  #size() {
    const chance = this.#chance;
    return {
      vcpus: chance.pick([1, 1, 1, 2]),
      memory_mb: chance.pick([128, 512, 1024]),
      disk_gb: chance.whole(1, 8),
    };
  }

  async #named(name: string, tool: string, input: object): Promise<void> {
    const answer = await this.#ask(tool, { ...input, wait_seconds: this.#chance.pick([0, 0, 0, 5]) });
    if (answer) this.#names.add(name);
  }

  /** Asks, again where there was no answer, and sometimes twice at once. Returns the answer, or null for a refusal. */
  async #ask(tool: string, input: object): Promise<Answer | null> {
    const { truth } = this.#crowd;
    const chance = this.#chance;
    const keyed = tool !== "operation_cancel" && chance.happens(0.9);
    const wish = {
      wait_seconds: 0,
      ...input,
      ...(keyed ? { idempotency_key: `wish-${++this.#wishes}` } : {}),
    };
    if (tool === "operation_cancel") delete (wish as Partial<typeof wish>).wait_seconds;
    truth.count("calls");
    const once = async (): Promise<Answer | null> => {
      for (let tries = 1; ; tries++) {
        try {
          return this.#told(await chance.pick(this.#crowd.servers).call(this.principal, tool, wish));
        } catch (thrown) {
          const error = FormationError.from(thrown);
          const again = error instanceof Lost || error.code === "unavailable";
          if (again && keyed && tries < TRIES) {
            await pause(chance.between(500, 4000));
            continue;
          }
          this.#refused(tool, wish, error);
          return null;
        }
      }
    };
    if (!keyed || !chance.happens(0.03)) return once();
    truth.count("calls made twice at once");
    const [one, other] = await Promise.all([once(), once()]);
    if (one && other && one["operation_id"] !== other["operation_id"]) {
      truth.offence(`${tool} made twice under one key: ${one["operation_id"]} and ${other["operation_id"]}`);
    }
    return one ?? other;
  }

  #told(answer: Answer): Answer {
    const operation = answer["operation_id"];
    if (typeof operation !== "string") return answer;
    this.#crowd.accepted.add(operation);
    this.#operations.push(operation);
    if (this.#operations.length > 20) this.#operations.shift();
    return answer;
  }

  #refused(tool: string, wish: object, error: FormationError): void {
    const { truth } = this.#crowd;
    truth.count(`refused: ${error.code}`);
    // A call that waits, or is repeated later, is told how its operation failed: by a guest or a run line that does.
    const told = error.code === "invalid" && error.details.exit_code !== undefined;
    if (FAIR.has(error.code) || told) return;
    const { owner } = this.principal;
    truth.offence(
      `${owner}: ${tool} ${JSON.stringify(wish)}: ${error.code}: ${error.message} ${error.cause ?? ""}`,
    );
  }
}
