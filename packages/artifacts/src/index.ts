// The artifacts port: content-addressed blobs (contexts, images) and append-only logs. The drivers are
// subpaths.

export type { Artifacts, BlobInfo, Digest, LogLine, LogPage, LogQuery } from "./port.ts";
