// The users of a simulation: each has an account, makes one request after the other, and repeats requests
// without an answer under the same key, as clients should. The answers that they got must be true in the end.

import { allScopes, type Principal } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import type { Chance } from "./chance.ts";
import { Lost, type SimulatedServer } from "./servers.ts";
import { NOWHERE, pause, within } from "./time.ts";
import type { Truth } from "./truth.ts";

export interface Crowd {
  servers: SimulatedServer[];
  truth: Truth;
  /** Ids of operations that a user was told about. */
  accepted: Set<string>;
  /** Names of nodes. */
  nodes: string[];
  /** Milliseconds between two requests of one user. */
  thinkMs: number;
  /** How many instances a user tries to have. */
  instances: number;
  isOver(): boolean;
}

type Answer = Record<string, unknown>;
/** Each node has one of these labels. */
export const ZONES = ["north", "east", "south"] as const;
const CONTROLS = ["stop", "start", "restart", "pause", "resume"] as const;
/** Error codes that a mistake or bad luck of the caller may cause; others are violations. */
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
    if (name !== null && build !== null && chance.happens(0.06)) return this.#rush(name, build);
    const roll = chance.next();
    if (roll < 0.05 && last) return this.#cancel(last);
    if (roll < 0.17 || build === null) return this.#build();
    if (roll < 0.42 && (!full || chance.happens(0.1))) return this.#make(build);
    if (name === null) return this.#make(build);
    if (roll < 0.55) return this.#ship(build, name, true);
    if (full ? roll < 0.8 : roll < 0.65) return this.#remove(name);
    await this.#control(name);
  }

  /** Several contradictory requests about one instance at once. */
  async #rush(name: string, build: string): Promise<void> {
    const chance = this.#chance;
    this.#crowd.truth.count("wishes that contradict each other");
    const wishes = [
      () => this.#control(name),
      () => this.#control(name),
      () => this.#ship(build, name, true),
      () => this.#remove(name),
      () => this.#cancel(this.#operations.at(-1) ?? ""),
    ];
    const at = chance.whole(0, wishes.length - 1);
    await Promise.all([...wishes, ...wishes].slice(at, at + chance.whole(2, 3)).map((wish) => wish()));
  }

  async #control(name: string): Promise<void> {
    await this.#ask("vm_control", { instance: name, action: this.#chance.pick(CONTROLS) });
  }

  async #cancel(operation: string): Promise<void> {
    await this.#ask("operation_cancel", { operation_id: operation });
  }

  async #build(): Promise<void> {
    const chance = this.#chance;
    const run = chance.happens(0.1) ? ["echo begin", "false"] : [`echo ${chance.whole(1, 5)}`];
    const name = `app-${chance.whole(1, 9)}`;
    // The included file contains the name of the build, so that the builder can check that it got the right
    // context.
    const include = chance.happens(0.3) ? ["name.txt", "more/name.txt"] : [];
    const context_files = Object.fromEntries(include.map((path) => [path, name]));
    const formfile = { from: "busybox", name, run, include, expose: [8080] };
    const answer = await this.#ask("pack_build", {
      formfile,
      ...(include.length > 0 ? { context_files } : {}),
      ...(chance.happens(0.05) ? { labels: this.#labels() } : {}),
      wait_seconds: chance.pick([0, 0, 0, 10]),
    });
    if (typeof answer?.["build_id"] === "string") this.#builds.push(answer["build_id"]);
    if (this.#builds.length > 8) this.#builds.shift();
  }

  async #make(build: string): Promise<void> {
    const name = `vm-${this.#chance.whole(1, this.#crowd.instances * 2)}`;
    if (this.#chance.happens(0.6)) return this.#ship(build, name, false);
    const asked = { image: "busybox", expose: [80], instance_name: name, ...this.#where() };
    await this.#named(name, "vm_create", asked);
  }

  async #ship(build: string, name: string, replace: boolean): Promise<void> {
    await this.#named(name, "pack_ship", { build_id: build, instance_name: name, replace, ...this.#where() });
  }

  async #remove(name: string): Promise<void> {
    const answer = await this.#ask("vm_delete", { instance: name, confirm: name });
    if (answer) this.#names.delete(name);
  }

  /** Its size and sometimes its place. */
  #where() {
    const chance = this.#chance;
    const vm_config = {
      vcpus: chance.pick([1, 1, 1, 2]),
      memory_mb: chance.pick([128, 512, 1024]),
      disk_gb: chance.whole(1, 8),
    };
    return {
      vm_config,
      ...(chance.happens(0.08) ? { labels: this.#labels() } : {}),
      ...(chance.happens(0.04) ? { target_node: chance.pick(this.#crowd.nodes) } : {}),
    };
  }

  #labels() {
    return { zone: this.#chance.pick(ZONES) };
  }

  async #named(name: string, tool: string, input: object): Promise<void> {
    const answer = await this.#ask(tool, { ...input, wait_seconds: this.#chance.pick([0, 0, 0, 5]) });
    if (answer) this.#names.add(name);
  }

  /**
   * Makes a request, repeats it if there was no answer, and sometimes sends it twice at once. Returns the
   * answer, or null for a refusal.
   */
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
          // An error with an operation id is the result of that operation.
          const ended = error.details.operation_id !== undefined;
          const again = error instanceof Lost || (error.code === "unavailable" && !ended);
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
    // A waiting or repeated call reports how its operation failed: because of a guest or a run line that
    // fails.
    const told = error.code === "invalid" && error.details.exit_code !== undefined;
    if (FAIR.has(error.code) || told) return;
    const { owner } = this.principal;
    truth.offence(
      `${owner}: ${tool} ${JSON.stringify(wish)}: ${error.code}: ${error.message} ${error.cause ?? ""}`,
    );
  }
}
