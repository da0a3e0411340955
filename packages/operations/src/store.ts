// The store made of its scripts: the same for every driver, which only has to run a script inside a transaction.

import { setTimeout as delay } from "node:timers/promises";
import {
  type Clock,
  type DocumentQuery,
  type Documents,
  FormationError,
  type NewDocument,
  type StoredDocument,
} from "@formation-mcp/contract";
import type { Compilable, CompiledQuery } from "kysely";
import type { Page, Store, SweepResult } from "./port.ts";
import * as audit from "./rules/audit.ts";
import * as cancel from "./rules/cancel.ts";
import { claim, claimAtOnce } from "./rules/claim.ts";
import * as counters from "./rules/counters.ts";
import * as documents from "./rules/documents.ts";
import * as settle from "./rules/lease.ts";
import * as listing from "./rules/listing.ts";
import * as reads from "./rules/lookups.ts";
import * as nodes from "./rules/nodes.ts";
import { usage } from "./rules/quota.ts";
import * as records from "./rules/records.ts";
import { EXPIRED } from "./rules/retention.ts";
import { replay, submit, submitted } from "./rules/submit.ts";
import { DUE } from "./rules/sweep.ts";
import { nothing, type Options, type Step } from "./rules/sweep-batches.ts";
import { toBuild, toDeployment, toInstance, toOperation } from "./sql/rows.ts";
import type { Query, Script } from "./sql/script.ts";

/** A sweep with more to do rests for this part of the time that its last step took. */
const GAP = 16;

/**
 * What a driver does. Each script runs as one transaction; `write` runs it again if somebody else held the lock. After a commit
 * whose end was not heard, `made` says what it made, or undefined if it made nothing.
 */
export interface Runner {
  readonly clock: Clock;
  read<T>(script: (q: Query) => Script<T>): Promise<T>;
  write<T>(script: (q: Query) => Script<T>, made?: (q: Query) => Script<T | undefined>): Promise<T>;
  /**
   * Runs one statement that returns what it wrote, at once and not again: what is written most often costs one question. If
   * it returns nothing it wrote nothing, and `write` is to find out why. Absent where a transaction costs nothing.
   */
  alone?(statement: (q: Query) => CompiledQuery): Promise<unknown[]>;
  revision(): number;
  /** What differs from call to call if anybody wrote in between: `revision` without delay. */
  written(): Promise<number>;
  /** Goes on numbering new rows after those that came with their numbers; absent where that is so anyway. */
  numberOn?(): Promise<void>;
  close(): Promise<void>;
}

const RUNNERS = new WeakMap<Store, Runner>();

/** What runs the scripts of a store that a driver of this package made. */
export function runnerOf(store: Store): Runner {
  const runner = RUNNERS.get(store);
  if (runner) return runner;
  throw new FormationError("invalid", "This store is not one of a database.");
}

export function storeOver(runner: Runner): Store {
  const { read, write } = runner;
  const alone = async <O>(statement: (q: Query) => Compilable<O>): Promise<O | undefined> =>
    (await runner.alone?.((q) => statement(q).compile()))?.[0] as O | undefined;
  const store: Store = {
    clock: runner.clock,
    submit: (submission) =>
      write(
        (q) => submit(q, submission),
        (q) => submitted(q, submission),
      ),
    async claim(request) {
      const row = request.subjects.length > 0 && (await alone((q) => claimAtOnce(q, request)));
      return row ? toOperation(row) : write((q) => claim(q, request));
    },
    async renew(lease, leaseMs) {
      const row = await alone((q) => settle.renewing(q, lease, leaseMs));
      return row ? toOperation(row) : write((q) => settle.renew(q, lease, leaseMs));
    },
    async report(lease, progress) {
      const row = await alone((q) => settle.reporting(q, lease, progress));
      if (!row) await write((q) => settle.report(q, lease, progress));
    },
    apply: (lease, changes) => write((q) => settle.apply(q, lease, changes)),
    settle: (lease, outcome, changes = {}) =>
      write(
        (q) => settle.settle(q, lease, outcome, changes),
        (q) => settle.settled(q, lease, outcome),
      ),
    observe: (id, version, patch) => write((q) => reads.observe(q, id, version, patch)),
    requestCancel: (owner, id) => write((q) => map(cancel.requestCancel(q, owner, id), toOperation)),

    operation: (owner, id) => read((q) => map(records.operationRow(q, owner, id), toOperation)),
    build: (owner, id) => read((q) => map(records.buildRow(q, owner, id), toBuild)),
    deployment: (owner, id) => read((q) => map(records.deploymentRow(q, owner, id), toDeployment)),
    instance: (owner, id) => read((q) => map(records.instanceRow(q, owner, id), toInstance)),
    instanceByName: (owner, name) => read((q) => reads.byName(q, owner, name)),
    operationFor: (target) => read((q) => reads.operationFor(q, target)),
    replay: (owner, tool, idempotency) => read((q) => replay(q, owner, tool, idempotency)),

    operations: (query) => read((q) => listing.operations(q, query)),
    builds: (query) => read((q) => listing.builds(q, query)),
    deployments: (query) => read((q) => listing.deployments(q, query)),
    instances: (query) => read((q) => listing.instances(q, query)),

    registerNode: (node) => write((q) => nodes.registerNode(q, node)),
    nodes: () => read(nodes.nodes),
    node: (id) => read((q) => nodes.node(q, id)),
    nodeUse: () => read(nodes.nodeUse),
    steerNode: (id, wish) => write((q) => nodes.steerNode(q, id, wish)),
    removeNode: (id, options) => write((q) => nodes.removeNode(q, id, options)),
    markLost: (silentMs) => write((q) => nodes.markLost(q, silentMs)),

    usage: (owner) => read((q) => usage(q, owner)),
    audit: {
      append: (records) => write((q) => audit.append(q, records)),
      seal: (seal) => write((q) => audit.seal(q, seal)),
      page: (query) => read((q) => audit.auditPage(q, query)),
      chains: () => read(audit.chains),
      read: (chain, fromSeq, limit) => read((q) => audit.readChain(q, chain, fromSeq, limit)),
    },
    documents: documentsOver(runner),
    counters: { spend: (request) => write((q) => counters.spend(q, request)) },

    sweep: (options) => stepwise(runner, [...DUE, ...EXPIRED], options),
    artifactRoots: () => read(reads.artifactRoots),
    revision: () => runner.revision(),
    close: () => runner.close(),
  };
  RUNNERS.set(store, runner);
  return store;
}

/** The caller says what its documents are: the store gives back what it was given. */
function documentsOver({ read, write }: Runner): Documents {
  const found = <T>(script: (q: Query) => Script<StoredDocument | null>) =>
    read(script) as Promise<StoredDocument<T> | null>;
  return {
    put: <T>(document: NewDocument<T>, expected?: number) =>
      write((q) => documents.put(q, document, expected)) as Promise<StoredDocument<T>>,
    get: <T>(kind: string, id: string) => found<T>((q) => documents.get(q, kind, id)),
    byAlias: <T>(kind: string, alias: string) => found<T>((q) => documents.get(q, kind, alias, "alias")),
    take: <T>(kind: string, id: string) =>
      write((q) => documents.take(q, kind, id)) as Promise<StoredDocument<T> | null>,
    remove: (kind, id) => write((q) => documents.take(q, kind, id)).then((taken) => taken !== null),
    removeAll: (where) => write((q) => documents.removeAll(q, where)),
    list: <T>(query: DocumentQuery) =>
      read((q) => documents.list(q, query)) as Promise<Page<StoredDocument<T>>>,
  };
}

async function stepwise({ write }: Runner, steps: readonly Step[], options: Options): Promise<SweepResult> {
  const result = nothing();
  for (const step of steps) {
    for (let more = true; more; ) {
      const began = performance.now();
      let part = nothing();
      more = await write((q) => {
        part = nothing(); // A transaction that is run again must not count twice.
        return step(q, options, part, result);
      });
      result.resend.push(...part.resend);
      result.changed.push(...part.changed);
      result.removedOperations += part.removedOperations;
      result.removedBuilds.push(...part.removedBuilds);
      // Writers of other processes try at intervals: without a gap they would meet the lock each time.
      if (more) await delay(Math.min((performance.now() - began) / GAP, 100));
    }
  }
  return result;
}

function* map<A, B>(script: Script<A>, to: (value: A) => B): Script<B> {
  return to(yield* script);
}
