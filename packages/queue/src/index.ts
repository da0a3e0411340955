// Wake-ups and events: publish, consume, subscribe. The drivers are subpaths, so that each library is loaded only there.

export type { ConsumeOptions, Consumer, DeadLetter, Queue } from "./port.ts";
