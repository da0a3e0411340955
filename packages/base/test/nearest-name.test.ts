// Edit distance as a metric-like measure, checked against a definition by search, and the nearest name by it.

import { editDistance, nearestName } from "@formation-mcp/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 6 });

/** Optimal string alignment as it is defined, without a table. */
function slowDistance(a: string, b: string): number {
  if (a === "" || b === "") return a.length + b.length;
  const [headA, headB] = [a.slice(0, -1), b.slice(0, -1)];
  const same = a.at(-1) === b.at(-1) ? 0 : 1;
  const edits = [slowDistance(headA, b) + 1, slowDistance(a, headB) + 1, slowDistance(headA, headB) + same];
  const isSwap = a.length > 1 && b.length > 1 && a.at(-1) === b.at(-2) && a.at(-2) === b.at(-1);
  if (isSwap) edits.push(slowDistance(a.slice(0, -2), b.slice(0, -2)) + 1);
  return Math.min(...edits);
}

describe("the edit distance", () => {
  it.each([
    ["", "", 0],
    ["image", "image", 0],
    ["", "abc", 3],
    ["entrypiont", "entrypoint", 1],
    ["expse", "expose", 1],
    ["exposse", "expose", 1],
    ["kitten", "sitting", 3],
    ["ca", "abc", 3],
  ])("between %j and %j is %i", (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
  });

  it("is that of the definition, and the same from both sides", () => {
    fc.assert(
      fc.property(word, word, (a, b) => {
        expect(editDistance(a, b)).toBe(slowDistance(a, b));
        expect(editDistance(a, b)).toBe(editDistance(b, a));
      }),
    );
  });

  it("is at least the difference of the lengths and at most the longer length", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        const distance = editDistance(a, b);
        expect(distance).toBeGreaterThanOrEqual(Math.abs(a.length - b.length));
        expect(distance).toBeLessThanOrEqual(Math.max(a.length, b.length));
        expect(distance === 0).toBe(a === b);
      }),
    );
  });
});

describe("the nearest name", () => {
  it("is the first with the fewest edits", () => {
    expect(nearestName("runn", ["from", "run", "ran"])).toEqual({ name: "run", distance: 1 });
    expect(nearestName("ron", ["ran", "run"])).toEqual({ name: "ran", distance: 1 });
    expect(nearestName("x", [])).toBeUndefined();
  });
});
