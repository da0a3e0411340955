// What a worker does: claim, build, ship, control, report, reconcile.

export type { NodeIdentity } from "./deps.ts";
export type { WorkerSettings } from "./settings.ts";
export { createWorker, type Worker, type WorkerOptions } from "./worker.ts";
