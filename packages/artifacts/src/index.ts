// Content-addressed blobs and append-only logs: build contexts, images, logs. Drivers are subpaths.

export type { Artifacts, BlobInfo, Digest, LogLine, LogPage, LogQuery } from "./port.ts";
