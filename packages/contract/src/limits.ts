// The one page of numbers. Sizes are bytes, times are milliseconds, unless the name says otherwise.

const KiB = 1024;
const MiB = 1024 * KiB;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Every limit that a caller can meet. */
export const LIMITS = {
  formfileBytes: 256 * KiB,
  inlineContextBytes: 2 * MiB,
  contextBytes: 512 * MiB,
  contextFiles: 50_000,
  mcpBodyBytes: 4 * MiB,
  metadataKeys: 64,
  metadataBytes: 256,
  buildMs: 30 * MINUTE,
  bootMs: 5 * MINUTE,
  attempts: 3,
  waitSeconds: 45,
  defaultWaitSeconds: 20,
  pageSize: 50,
  defaultPageSize: 20,
  resultBytes: 20_000,
  errorLogLines: 40,
  operationKeptMs: HOUR,
  sweepEveryMs: 5 * MINUTE,
  idempotencyKeptMs: DAY,
  unusedBuildKeptMs: 7 * DAY,
  leaseMs: 30_000,
  /** An operation that nobody claimed for this long is woken again by the sweep. */
  strandedMs: 30_000,
  /** A queued operation ends here at the latest. */
  queuedMs: DAY,
  reconcileEveryMs: MINUTE,
  stopMs: 10_000,
  vcpus: { min: 1, max: 64 },
  memoryMb: { min: 64, max: 262_144 },
  diskGb: { min: 1, max: 2048 },
  logBytesPerStream: 8 * MiB,
  logLineBytes: 16 * KiB,
  buildPids: 1024,
  buildMemoryMb: 2048,
  /** What RUN lines and included files may add to a build's image. */
  buildDiskBytes: 20 * 1024 * MiB,
} as const;
