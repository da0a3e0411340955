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
  /** How often a worker asks for work though nothing woke it: a wake-up may be lost. */
  pollEveryMs: 5000,
  /** An operation that nobody claimed for this long is woken again by the sweep. */
  strandedMs: 30_000,
  /** A queued operation ends here at the latest. */
  queuedMs: DAY,
  reconcileEveryMs: MINUTE,
  /** A node that was not heard of for so long is not counted on, and its instances are lost: three leases. */
  nodeSilentMs: 90_000,
  /** Labels of a node, or asked of one. */
  labels: 16,
  /** How long a line of the audit log is kept. */
  auditKeptMs: 90 * DAY,
  /** A challenge is good for so long. */
  challengeMs: 5 * MINUTE,
  accessTokenMs: 15 * MINUTE,
  /** A refresh token that nobody used for so long is void. */
  refreshTokenMs: 30 * DAY,
  /** How far another machine's clock may be off. */
  clockSkewMs: MINUTE,
  /** A revocation is effective everywhere after this at the latest. */
  revocationMs: 5_000,
  /** An uploaded context that no build names is kept for so long. */
  uploadedContextKeptMs: DAY,
  stopMs: 10_000,
  vcpus: { min: 1, max: 64 },
  memoryMb: { min: 64, max: 262_144 },
  diskGb: { min: 1, max: 2048 },
  logBytesPerStream: 8 * MiB,
  logLineBytes: 16 * KiB,
  /** Of one address, one account, sign-ins of one address, and refused tokens of one address. */
  requestsPerMinute: { address: 3000, owner: 1800, signIn: 60, failure: 60 },
  buildPids: 1024,
  buildMemoryMb: 2048,
  /** What RUN lines and included files may add to a build's image. */
  buildDiskBytes: 20 * 1024 * MiB,
} as const;
