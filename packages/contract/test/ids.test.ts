import { FormationError, ID_KINDS, type IdKind, idKind, newId, parseId } from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const KINDS = Object.keys(ID_KINDS) as IdKind[];
const kind = fc.constantFrom(...KINDS);
const time = fc.integer({ min: 0, max: 2 ** 45 });
const bits = fc.uint8Array({ minLength: 16, maxLength: 16 });
const made = fc
  .tuple(kind, time, bits)
  .map(([k, now, random]) => ({ kind: k, now, random, id: newId(k, { now: () => now }, () => random) }));

describe("an id", () => {
  it("carries its kind, and is 36 characters of lower-case Crockford base 32 after it", () => {
    fc.assert(
      fc.property(made, ({ kind: k, id }) => {
        expect(idKind(id)).toBe(k);
        expect(id).toMatch(new RegExp(`^${k}_[0-9a-hjkmnp-tv-z]{36}$`));
        expect(parseId(k, id, "id")).toBe(id);
      }),
    );
  });

  it("sorts by its time as plain text", () => {
    fc.assert(
      fc.property(kind, time, time, bits, bits, (k, early, late, one, other) => {
        fc.pre(early < late);
        const [a, b] = [
          newId(k, { now: () => early }, () => one),
          newId(k, { now: () => late }, () => other),
        ];
        expect(a < b).toBe(true);
      }),
    );
  });

  it("differs as soon as the time or one of its 128 random bits differs", () => {
    fc.assert(
      fc.property(made, fc.nat(127), ({ kind: k, now, random, id }, bit) => {
        const flipped = Uint8Array.from(random);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(newId(k, { now: () => now }, () => flipped)).not.toBe(id);
        expect(newId(k, { now: () => now + 1 }, () => random)).not.toBe(id);
      }),
    );
  });

  it("asks for exactly 16 random bytes, and by default gets new ones each time", () => {
    const asked: number[] = [];
    newId("op", { now: () => 0 }, (bytes) => {
      asked.push(bytes);
      return new Uint8Array(bytes);
    });
    expect(asked).toEqual([16]);
    expect(new Set(Array.from({ length: 2000 }, () => newId("vm", { now: () => 1 }))).size).toBe(2000);
  });

  it("of one kind is no id of another", () => {
    fc.assert(
      fc.property(made, kind, ({ kind: k, id }, other) => {
        fc.pre(other !== k);
        expect(() => parseId(other, id, "build_id")).toThrow(
          expect.objectContaining({
            code: "invalid",
            details: expect.objectContaining({ field: "build_id" }),
          }),
        );
      }),
    );
  });

  it("is safe in file names, subjects and shells: letters, digits and one underscore", () => {
    fc.assert(
      fc.property(made, ({ id }) => {
        expect(id).toMatch(/^[a-z]+_[a-z0-9]+$/);
      }),
    );
  });
});

describe("a text that is not an id", () => {
  it("has no kind and is refused with its field, cut short", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        fc.pre(!/^(op|bld|dep|vm|node)_[0-9a-z]{36}$/.test(text));
        expect(idKind(text)).toBeUndefined();
        try {
          parseId("op", text, "operation_id");
          expect.unreachable();
        } catch (error) {
          expect(error).toBeInstanceOf(FormationError);
          expect((error as FormationError).message.length).toBeLessThan(500);
          expect((error as FormationError).details.remedy).toContain('"op_"');
        }
      }),
    );
  });

  it("may be an id with a prefix, a suffix or capitals", () => {
    const id = newId("op");
    for (const text of [
      ` ${id}`,
      `${id}\n`,
      `${id}/..`,
      id.toUpperCase(),
      id.slice(0, -1),
      `${id}0`,
      `x${id}`,
    ]) {
      expect(idKind(text)).toBeUndefined();
    }
  });
});
