// A client that follows the rules: it repeats a request without an answer, or with `unavailable`, under the
// same key until it is accepted or refused. It records answers that a server must not give.

import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "../cluster.ts";
import { type Person, rest, signIn } from "../http/people.ts";

export type Data = Record<string, unknown>;

/** A request and the operation, or the refusal, that it led to. */
export interface Wish {
  tool: string;
  parameters: Data;
  answer: Data | null;
  refusal: string | null;
}

const PATIENCE_MS = 150_000;

export class Client {
  readonly #cluster: Cluster;
  #person: Person;
  /** Answers that servers must not give. */
  readonly offences: string[] = [];
  /** How often a server answered that it can not serve now, and when to retry. */
  unavailable = 0;

  constructor(cluster: Cluster, person: Person) {
    this.#cluster = cluster;
    this.#person = person;
  }

  /** Tokens are short-lived, so it signs in again. */
  async signIn(): Promise<void> {
    this.#person = await signIn(this.#cluster.url, this.#person.key);
  }

  async wish(tool: string, parameters: Data): Promise<Wish> {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      const reply = await this.#ask(tool, parameters);
      if (reply?.status === 200) return { tool, parameters, answer: reply.data, refusal: null };
      // The same key was accepted before, and its operation has ended since.
      if (reply?.ended !== undefined) {
        return { tool, parameters, answer: { operation_id: reply.ended }, refusal: null };
      }
      if (reply !== null && reply.status !== 503) {
        return { tool, parameters, answer: null, refusal: `${reply.status} ${reply.text}` };
      }
      if (performance.now() > end)
        throw new Error(`${tool} was never answered: ${reply?.text ?? "no connection"}`);
      await delay(250);
    }
  }

  /** {@link wish}, where a refusal is an error. */
  async must(tool: string, parameters: Data): Promise<Data> {
    const { answer, refusal } = await this.wish(tool, parameters);
    if (!answer) throw new Error(`${tool} ${JSON.stringify(parameters)}: ${refusal}`);
    return answer;
  }

  /** Follows an accepted operation to its end. */
  async ended(first: Data): Promise<Data> {
    const id = first["operation_id"];
    if (typeof id !== "string") return first;
    const end = performance.now() + PATIENCE_MS;
    for (let seen: Data = {}; ; ) {
      const { answer, refusal } = await this.wish("operation_get", { id, wait_seconds: 10 });
      if (!answer) throw new Error(`${id} was accepted and is gone: ${refusal}`);
      seen = answer;
      if (seen["done"] === true) return seen;
      if (performance.now() > end) throw new Error(`${id} never ended: ${JSON.stringify(seen)}`);
      await delay(100);
    }
  }

  /** Repeats a request without delay and counts the answers. */
  listen(): { readonly unavailable: number; readonly gone: number; stop(): void } {
    const heard = { unavailable: 0, gone: 0, stop: () => clearInterval(timer) };
    const look = async () => {
      const reply = await this.#ask("vm_list", { limit: 1 });
      if (reply === null) heard.gone++;
      else if (reply.status === 503) heard.unavailable++;
    };
    const timer = setInterval(() => void look(), 300);
    return heard;
  }

  async #ask(tool: string, parameters: Data): Promise<Answer | null> {
    const { token } = this.#person;
    const reply = await rest(this.#cluster.url, "POST", `/api/tools/${tool}`, {
      token,
      body: { parameters },
    }).catch(() => null);
    if (reply === null) return null;
    const { status, body: text, json, headers } = reply;
    const ended = (json.error as { operation_id?: string } | undefined)?.operation_id;
    if (status === 503 && ended === undefined) {
      this.unavailable++;
      if (!(Number(headers["retry-after"]) > 0))
        this.offences.push(`${tool}: 503 without Retry-After: ${text}`);
    } else if (status >= 500 && status !== 503) this.offences.push(`${tool}: ${status} ${text}`);
    return { status, data: json.data ?? {}, text, ended };
  }
}

interface Answer {
  status: number;
  data: Data;
  text: string;
  /** The operation that the error belongs to. */
  ended: string | undefined;
}
