// The queue's port: publish and consume wake-ups, emit and subscribe to events. The drivers are subpaths, so
// each library is loaded only with its driver.

export type { ConsumeOptions, Consumer, DeadLetter, Queue } from "./port.ts";
