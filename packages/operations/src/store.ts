// The store port, implemented by scripts: each method runs one script in one transaction. A driver only has
// to run scripts.

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
import { claim, claimInOneStatement } from "./rules/claim.ts";
import * as counters from "./rules/counters.ts";
import * as documents from "./rules/documents.ts";
import { replay } from "./rules/idempotency.ts";
import * as leases from "./rules/leases.ts";
import * as listing from "./rules/listing.ts";
import * as lookups from "./rules/lookups.ts";
import { markLost } from "./rules/lost-instances.ts";
import { removeNode } from "./rules/node-removal.ts";
import * as nodes from "./rules/nodes.ts";
import { usage } from "./rules/quota.ts";
import * as records from "./rules/records.ts";
import { RETENTION_STEPS } from "./rules/retention.ts";
import { findSubmitted, submit } from "./rules/submit.ts";
import { DUE_STEPS } from "./rules/sweep.ts";
import { emptySweep, type SweepOptions, type SweepStep } from "./rules/sweep-batches.ts";
import { toBuild, toDeployment, toInstance, toOperation } from "./sql/rows.ts";
import type { Transaction, TransactionScript } from "./sql/script.ts";

/**
 * Between two steps a sweep pauses for the time of the last step divided by this, and never longer than the
 * maximum.
 */
const PAUSE_DIVISOR = 16;
const MAX_PAUSE_MS = 100;

/**
 * What a driver does: it runs each script as one transaction, and again if another transaction was in the
 * way.
 */
export interface ScriptRunner {
  readonly clock: Clock;
  /** Runs a script that only lookups. All its queries see the same state. */
  read<T>(script: (tx: Transaction) => TransactionScript<T>): Promise<T>;
  /**
   * Runs a script that writes.
   * @param findResult returns what an earlier run of the script wrote, or undefined if it wrote nothing. A
   *   driver asks it after a commit whose answer was lost.
   */
  write<T>(
    script: (tx: Transaction) => TransactionScript<T>,
    findResult?: (tx: Transaction) => TransactionScript<T | undefined>,
  ): Promise<T>;
  /**
   * Runs one statement that returns what it wrote, in one round trip, for what is written most often. If it
   * returns nothing it wrote nothing, and `write` has to find out why. Absent where a transaction costs no
   * round trips.
   */
  single?(statement: (tx: Transaction) => CompiledQuery): Promise<unknown[]>;
  revision(): number;
  /** As `revision`, but without delay: it differs between two calls if any process wrote in between. */
  exactRevision(): Promise<number>;
  /** Continues numbering after imported rows. Absent where the database does so by itself. */
  restartNumbering?(): Promise<void>;
  close(): Promise<void>;
}

const RUNNERS = new WeakMap<Store, ScriptRunner>();

/**
 * The runner of a store that a driver of this package opened.
 * @throws FormationError `invalid` for any other store.
 */
export function runnerOf(store: Store): ScriptRunner {
  const runner = RUNNERS.get(store);
  if (runner) return runner;
  throw new FormationError("invalid", "This store is not one of a database.");
}

/** Makes a store of a driver. */
export function createStore(runner: ScriptRunner): Store {
  const { read, write } = runner;
  const single = async <O>(statement: (tx: Transaction) => Compilable<O>): Promise<O | undefined> =>
    (await runner.single?.((tx) => statement(tx).compile()))?.[0] as O | undefined;
  const store: Store = {
    clock: runner.clock,
    submit: (submission) =>
      write(
        (tx) => submit(tx, submission),
        (tx) => findSubmitted(tx, submission),
      ),
    async claim(request) {
      const row = request.subjects.length > 0 && (await single((tx) => claimInOneStatement(tx, request)));
      return row ? toOperation(row) : write((tx) => claim(tx, request));
    },
    async renew(lease, leaseMs) {
      const row = await single((tx) => leases.renewStatement(tx, lease, leaseMs));
      return row ? toOperation(row) : write((tx) => leases.renew(tx, lease, leaseMs));
    },
    async report(lease, progress) {
      const row = await single((tx) => leases.reportStatement(tx, lease, progress));
      if (!row) await write((tx) => leases.report(tx, lease, progress));
    },
    apply: (lease, changes) => write((tx) => leases.apply(tx, lease, changes)),
    settle: (lease, outcome, changes = {}) =>
      write(
        (tx) => leases.settle(tx, lease, outcome, changes),
        (tx) => leases.findSettled(tx, lease, outcome),
      ),
    observe: (id, version, patch) => write((tx) => lookups.observe(tx, id, version, patch)),
    requestCancel: (owner, id) => write((tx) => map(cancel.requestCancel(tx, owner, id), toOperation)),

    operation: (owner, id) => read((tx) => map(records.operationRow(tx, owner, id), toOperation)),
    build: (owner, id) => read((tx) => map(records.buildRow(tx, owner, id), toBuild)),
    deployment: (owner, id) => read((tx) => map(records.deploymentRow(tx, owner, id), toDeployment)),
    instance: (owner, id) => read((tx) => map(records.instanceRow(tx, owner, id), toInstance)),
    instanceByName: (owner, name) => read((tx) => lookups.byName(tx, owner, name)),
    operationFor: (target) => read((tx) => lookups.operationFor(tx, target)),
    replay: (owner, tool, idempotency) => read((tx) => replay(tx, owner, tool, idempotency)),

    operations: (query) => read((tx) => listing.operations(tx, query)),
    builds: (query) => read((tx) => listing.builds(tx, query)),
    deployments: (query) => read((tx) => listing.deployments(tx, query)),
    instances: (query) => read((tx) => listing.instances(tx, query)),

    registerNode: (node) => write((tx) => nodes.registerNode(tx, node)),
    nodes: () => read(nodes.nodes),
    node: (id) => read((tx) => nodes.node(tx, id)),
    nodeUse: () => read(nodes.nodeUse),
    setNodeScheduling: (id, wish) => write((tx) => nodes.setNodeScheduling(tx, id, wish)),
    removeNode: (id, options) => write((tx) => removeNode(tx, id, options)),
    markLost: (silentMs) => write((tx) => markLost(tx, silentMs)),

    usage: (owner) => read((tx) => usage(tx, owner)),
    audit: {
      append: (records) => write((tx) => audit.append(tx, records)),
      seal: (seal) => write((tx) => audit.seal(tx, seal)),
      page: (query) => read((tx) => audit.auditPage(tx, query)),
      chains: () => read(audit.chains),
      read: (chain, fromSeq, limit) => read((tx) => audit.readChain(tx, chain, fromSeq, limit)),
    },
    documents: createDocuments(runner),
    counters: { spend: (request) => write((tx) => counters.spend(tx, request)) },

    sweep: (options) => runSweep(runner, [...DUE_STEPS, ...RETENTION_STEPS], options),
    artifactRoots: () => read(lookups.artifactRoots),
    revision: () => runner.revision(),
    close: () => runner.close(),
  };
  RUNNERS.set(store, runner);
  return store;
}

/** The type of a document is the caller's: the store returns the JSON that it was given. */
function createDocuments({ read, write }: ScriptRunner): Documents {
  const found = <T>(script: (tx: Transaction) => TransactionScript<StoredDocument | null>) =>
    read(script) as Promise<StoredDocument<T> | null>;
  return {
    put: <T>(document: NewDocument<T>, expected?: number) =>
      write((tx) => documents.put(tx, document, expected)) as Promise<StoredDocument<T>>,
    get: <T>(kind: string, id: string) => found<T>((tx) => documents.get(tx, kind, id)),
    byAlias: <T>(kind: string, alias: string) => found<T>((tx) => documents.get(tx, kind, alias, "alias")),
    take: <T>(kind: string, id: string) =>
      write((tx) => documents.take(tx, kind, id)) as Promise<StoredDocument<T> | null>,
    remove: (kind, id) => write((tx) => documents.take(tx, kind, id)).then((taken) => taken !== null),
    removeAll: (where) => write((tx) => documents.removeAll(tx, where)),
    list: <T>(query: DocumentQuery) =>
      read((tx) => documents.list(tx, query)) as Promise<Page<StoredDocument<T>>>,
  };
}

/**
 * Runs the steps of a sweep in their order, each until it has no more to do, with one transaction a batch.
 */
async function runSweep(
  { write }: ScriptRunner,
  steps: readonly SweepStep[],
  options: SweepOptions,
): Promise<SweepResult> {
  const result = emptySweep();
  for (const step of steps) {
    for (let more = true; more; ) {
      const began = performance.now();
      let part = emptySweep();
      more = await write((tx) => {
        part = emptySweep(); // A transaction that is run again must not be counted twice.
        return step(tx, options, part, result);
      });
      result.resend.push(...part.resend);
      result.changed.push(...part.changed);
      result.removedOperations += part.removedOperations;
      result.removedBuilds.push(...part.removedBuilds);
      // Writers of other processes try at intervals: without a pause they would find the lock taken each
      // time.
      if (more) await delay(Math.min((performance.now() - began) / PAUSE_DIVISOR, MAX_PAUSE_MS));
    }
  }
  return result;
}

function* map<A, B>(script: TransactionScript<A>, to: (value: A) => B): TransactionScript<B> {
  return to(yield* script);
}
