import { waitFor } from "@formation-mcp/os";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const never = () => new Promise<never>(() => {});

describe("waiting", () => {
  it("ends with the first truthy answer, of a condition that is asked one at a time", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(6), fc.boolean(), async (after, slow) => {
        let asked = 0;
        let inside = 0;
        const condition = async () => {
          expect(++inside).toBe(1);
          if (slow) await new Promise((done) => setImmediate(done));
          inside--;
          return asked++ < after ? 0 : asked;
        };
        expect(await waitFor(condition, { timeoutMs: 10_000, everyMs: 1, what: "it" })).toBe(after + 1);
      }),
      { numRuns: 20 },
    );
  });

  it("asks at least once, even with no time", async () => {
    expect(await waitFor(() => "yes", { timeoutMs: 0, what: "it" })).toBe("yes");
  });

  it("ends with `limit` and what was waited for", async () => {
    await expect(waitFor(() => false, { timeoutMs: 30, what: "the moon" })).rejects.toMatchObject({
      code: "limit",
      message: expect.stringContaining("the moon"),
    });
  });

  it("ends with `limit` also when the condition never answers", async () => {
    await expect(waitFor(never, { timeoutMs: 30, what: "silence" })).rejects.toMatchObject({ code: "limit" });
  });

  it("ends with `cancelled` at the abort, during a pause and during a condition", async () => {
    for (const condition of [() => false, never]) {
      const options = { timeoutMs: 60_000, everyMs: 60_000, signal: AbortSignal.timeout(20), what: "it" };
      await expect(waitFor(condition, options)).rejects.toMatchObject({ code: "cancelled" });
    }
    await expect(
      waitFor(() => true, { timeoutMs: 1, signal: AbortSignal.abort(), what: "it" }),
    ).rejects.toMatchObject({ code: "cancelled" });
  });

  it("passes on what the condition throws", async () => {
    const failing = () => {
      throw new RangeError("broken");
    };
    await expect(waitFor(failing, { timeoutMs: 1000, what: "it" })).rejects.toThrow(RangeError);
  });

  it("beyond what a timer can take is no instant limit", async () => {
    let asked = 0;
    const condition = async () => {
      await new Promise((done) => setTimeout(done, 5));
      return ++asked > 3;
    };
    const options = { timeoutMs: Number.POSITIVE_INFINITY, everyMs: 1, what: "it" };
    expect(await waitFor(condition, options)).toBe(true);
  });
});
