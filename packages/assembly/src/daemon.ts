// The worker as a daemon: its settings, its run, and the operator's commands beside it.

export {
  drainWorker,
  readWorkerConfiguration,
  type WorkerConfiguration,
  workerDaemon,
  workerNatsUser,
  workerStatus,
} from "./process/daemon.ts";
export { SHARED_VARIABLES, WORKER_VARIABLES } from "./settings/variables.ts";
