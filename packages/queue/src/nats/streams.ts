// The queue's streams in NATS: a work queue with one consumer per subject, and the dead letters. A managing
// process makes them, also again after a server lost its whole store; other processes only check that they
// exist.

import { FormationError, type Logger, SUBJECTS } from "@formation-mcp/contract";
import {
  AckPolicy,
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from "@nats-io/jetstream";
import { nanos, PermissionViolationError } from "@nats-io/transport-node";
import { DEAD_KEPT_MS, DEDUP_MS, MAX_DEAD, MAX_MESSAGES, MESSAGE_KEPT_MS, reasonOf } from "../rules.ts";
import type { WatchedConnection } from "./connection.ts";

export const WORK_STREAM = "FORMATION_WORK";
export const DEAD_STREAM = "FORMATION_DEAD";
export const WORK_SUBJECTS: readonly string[] = Object.values(SUBJECTS);
export const DEAD_PREFIX = "dead";

/** The durable consumer's name for a work subject (a name may not contain dots). */
export function consumerOf(subject: string): string {
  return subject.replaceAll(".", "_");
}

export interface StreamSettings {
  replicas: number;
  storage: "file" | "memory";
  leaseMs: number;
  manage: boolean;
  logger: Logger;
}

const CALL_TIMEOUT_MS = 2_000;
const NAME_IN_USE = 10058;
const CONSUMER_EXISTS = 10148;
/** More than the number of workers. Beyond it, a worker's pull request is refused. */
const MAX_WAITING_PULLS = 16_384;

export class NatsStreams {
  readonly #link: WatchedConnection;
  readonly #settings: StreamSettings;
  #manager: Promise<JetStreamManager> | undefined;
  #preparing: Promise<void> | undefined;

  constructor(link: WatchedConnection, settings: StreamSettings) {
    this.#link = link;
    this.#settings = settings;
  }

  get manages(): boolean {
    return this.#settings.manage;
  }

  manager(): Promise<JetStreamManager> {
    this.#manager ??= jetstreamManager(this.#link.connection, { checkAPI: false, timeout: CALL_TIMEOUT_MS });
    return this.#manager;
  }

  /**
   * Makes missing streams and consumers, and updates those with another configuration. Concurrent calls share
   * one run.
   */
  prepare(): Promise<void> {
    this.#preparing ??= this.#prepare().finally(() => {
      this.#preparing = undefined;
    });
    return this.#preparing;
  }

  /**
   * Whether a subject's consumer exists; makes it if this process manages. Rejects if the server does not
   * answer.
   */
  async ready(subject: string): Promise<boolean> {
    const manager = await this.manager();
    try {
      await manager.consumers.info(WORK_STREAM, consumerOf(subject));
      return true;
    } catch (error) {
      if (!isMissing(error)) throw error;
      if (!this.manages) return false;
      await this.prepare();
      return true;
    }
  }

  async #prepare(): Promise<void> {
    const { replicas, storage } = this.#settings;
    const common = {
      num_replicas: replicas,
      storage: storage === "file" ? StorageType.File : StorageType.Memory,
      discard: DiscardPolicy.Old,
      duplicate_window: nanos(DEDUP_MS),
    };
    await this.#stream({
      ...common,
      name: WORK_STREAM,
      subjects: [...WORK_SUBJECTS],
      retention: RetentionPolicy.Workqueue,
      max_age: nanos(MESSAGE_KEPT_MS),
      max_msgs: MAX_MESSAGES,
    });
    await this.#stream({
      ...common,
      name: DEAD_STREAM,
      subjects: [`${DEAD_PREFIX}.>`],
      retention: RetentionPolicy.Limits,
      max_age: nanos(DEAD_KEPT_MS),
      max_msgs: MAX_DEAD,
    });
    for (const subject of WORK_SUBJECTS) await this.#consumer(subject);
  }

  async #stream(config: Partial<StreamConfig> & { name: string }): Promise<void> {
    const { streams } = await this.manager();
    try {
      await streams.add(config);
    } catch (error) {
      if (natsCode(error) !== NAME_IN_USE) throw error;
      // A stream's storage cannot be changed, and too few servers may be up for its replicas. It works as it
      // is.
      await streams.update(config.name, config).catch((reason: unknown) =>
        this.#settings.logger.log("warn", "A stream keeps its old configuration.", {
          stream: config.name,
          reason: reason instanceof Error ? reason.message : reasonOf(reason),
        }),
      );
    }
  }

  async #consumer(subject: string): Promise<void> {
    const { consumers } = await this.manager();
    const changing = { ack_wait: nanos(this.#settings.leaseMs), max_ack_pending: MAX_WAITING_PULLS };
    const durable = consumerOf(subject);
    try {
      await consumers.add(WORK_STREAM, {
        ...changing,
        durable_name: durable,
        filter_subject: subject,
        ack_policy: AckPolicy.Explicit,
        // Unlimited: deliveries are counted by the consumer, so that no message stays behind undeliverable.
        max_deliver: -1,
        max_waiting: MAX_WAITING_PULLS,
      });
    } catch (error) {
      if (natsCode(error) !== CONSUMER_EXISTS) throw error;
      await consumers.update(WORK_STREAM, durable, changing);
    }
  }
}

/** Whether an error says that a stream or a consumer does not exist. */
export function isMissing(error: unknown): boolean {
  const code = natsCode(error);
  return code === JetStreamApiCodes.StreamNotFound || code === JetStreamApiCodes.ConsumerNotFound;
}

/** Converts a NATS error to the port's error. */
export function natsUnavailable(error: unknown, what: string): FormationError {
  if (error instanceof FormationError) return error;
  if (isForbidden(error)) {
    return new FormationError("forbidden", `${what}: NATS does not let this user do it.`, {
      cause: error,
      remedy: "Look at the user's permissions in the server's configuration.",
    });
  }
  return new FormationError("unavailable", `${what}: NATS cannot be used now.`, {
    cause: error,
    remedy:
      "Check that nats-server runs, with JetStream on and room on its disk; it is tried again by itself.",
  });
}

/** Whether the server denied the permission. The library wraps the server's error. */
function isForbidden(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return error instanceof PermissionViolationError || isForbidden(error.cause);
}

function natsCode(error: unknown): number {
  return error instanceof JetStreamApiError ? error.code : 0;
}
