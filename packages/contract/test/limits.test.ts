import { LIMITS, silentLogger, systemClock } from "@formation-mcp/contract";
import { expect, it } from "vitest";

const flat = (value: object, path = ""): [string, unknown][] =>
  Object.entries(value).flatMap(([key, inner]) =>
    typeof inner === "object" ? flat(inner, `${path}${key}.`) : [[path + key, inner] as [string, unknown]],
  );

it("every limit is a positive whole number", () => {
  for (const [name, value] of flat(LIMITS)) {
    expect(Number.isSafeInteger(value) && (value as number) > 0, name).toBe(true);
  }
});

it("every range has room between its ends", () => {
  for (const range of [LIMITS.vcpus, LIMITS.memoryMb, LIMITS.diskGb])
    expect(range.min).toBeLessThan(range.max);
});

it("the limits fit each other", () => {
  // What is sent inline has to fit a request, also in base 64.
  expect(LIMITS.inlineContextBytes * (4 / 3)).toBeLessThan(LIMITS.mcpBodyBytes);
  expect(LIMITS.formfileBytes).toBeLessThan(LIMITS.mcpBodyBytes);
  expect(LIMITS.inlineContextBytes).toBeLessThan(LIMITS.contextBytes);
  expect(LIMITS.defaultWaitSeconds).toBeLessThanOrEqual(LIMITS.waitSeconds);
  expect(LIMITS.defaultPageSize).toBeLessThanOrEqual(LIMITS.pageSize);
  expect(LIMITS.logLineBytes).toBeLessThan(LIMITS.logBytesPerStream);
  // A lease is renewed many times in the course of a build, and a retry waits at most for one lease.
  expect(LIMITS.leaseMs * 10).toBeLessThan(LIMITS.buildMs);
  expect(LIMITS.stopMs).toBeLessThan(LIMITS.leaseMs);
  expect(LIMITS.sweepEveryMs).toBeLessThan(LIMITS.operationKeptMs);
  expect(LIMITS.buildMs * LIMITS.attempts).toBeLessThan(LIMITS.queuedMs);
});

it("the documents' numbers are these", () => {
  expect(LIMITS).toMatchObject({
    formfileBytes: 262_144,
    inlineContextBytes: 2_097_152,
    contextBytes: 536_870_912,
    mcpBodyBytes: 4_194_304,
    metadataKeys: 64,
    metadataBytes: 256,
    buildMs: 1_800_000,
    bootMs: 300_000,
    attempts: 3,
    waitSeconds: 45,
    pageSize: 50,
    resultBytes: 20_000,
    operationKeptMs: 3_600_000,
    sweepEveryMs: 300_000,
    vcpus: { min: 1, max: 64 },
    memoryMb: { min: 64, max: 262_144 },
    diskGb: { min: 1, max: 2048 },
  });
});

it("the system clock tells milliseconds since the epoch, and the silent logger drops its lines", () => {
  const before = Date.now();
  expect(systemClock.now()).toBeGreaterThanOrEqual(before);
  expect(silentLogger.log("error", "nobody hears this")).toBeUndefined();
});
