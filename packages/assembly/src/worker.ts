// The worker in this process: the command `worker` of a program.

export { type RunWorkerOptions, runWorker, type WorkerParts, workerCommand } from "./process/run-worker.ts";
