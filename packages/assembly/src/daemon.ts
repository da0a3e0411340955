// The worker as a daemon: its settings, its run, and the commands of a node's operator.

export { workerNatsUser } from "./commands/nats-user.ts";
export { drainWorker, workerStatus } from "./commands/worker-admin.ts";
export { workerDaemon } from "./process/worker-daemon.ts";
export { readWorkerConfiguration, type WorkerConfiguration } from "./settings/worker-configuration.ts";
