import { createWorker, type WorkerOptions } from "@formation-mcp/pack-manager";

export async function work(options: WorkerOptions, signal: AbortSignal): Promise<void> {
  const worker = createWorker({ ...options, settings: { buildSlots: 2 } });
  await worker.start();
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  await worker.drain();
  await worker.stop();
}
