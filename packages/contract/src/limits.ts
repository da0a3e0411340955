// All numeric limits and intervals in one place. Sizes are in bytes and times in milliseconds, unless the
// name says otherwise.

const KiB = 1024;
const MiB = 1024 * KiB;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Every limit that a caller can meet, and the intervals that all processes must agree on. */
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
  /** How often an operation is tried at most, the first attempt included. */
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
  /** How often a worker asks for work without a wake-up, because wake-ups may be lost. */
  pollEveryMs: 5000,
  /** The sweep sends the wake-up again for an operation that was not claimed for this long. */
  strandedMs: 30_000,
  /** How long an operation may be queued. */
  queuedMs: DAY,
  reconcileEveryMs: MINUTE,
  /** After so long without a heartbeat a node is not counted on, and its instances are lost: three leases. */
  nodeSilentMs: 90_000,
  /** How many labels a node may have, or an operation may ask for. */
  labels: 16,
  /** How long lines of the audit log are kept. */
  auditKeptMs: 90 * DAY,
  /** How long a challenge is valid. */
  challengeMs: 5 * MINUTE,
  accessTokenMs: 15 * MINUTE,
  /** A refresh token that was not used for this long is void. */
  refreshTokenMs: 30 * DAY,
  /** How far another machine's clock may deviate. */
  clockSkewMs: MINUTE,
  /** After so long at most a revocation is effective in every process. */
  revocationMs: 5_000,
  /** How long an uploaded context is kept that no build uses. */
  uploadedContextKeptMs: DAY,
  stopMs: 10_000,
  vcpus: { min: 1, max: 64 },
  memoryMb: { min: 64, max: 262_144 },
  diskGb: { min: 1, max: 2048 },
  logBytesPerStream: 8 * MiB,
  logLineBytes: 16 * KiB,
  /** For one address, for one account, for sign-ins from one address, for refused tokens from one address. */
  requestsPerMinute: { address: 3000, owner: 1800, signIn: 60, failure: 60 },
  buildPids: 1024,
  buildMemoryMb: 2048,
  /** What RUN lines and included files may add to a build's image. */
  buildDiskBytes: 20 * 1024 * MiB,
} as const;
