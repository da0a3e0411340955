import {
  checkLabels,
  covers,
  FormationError,
  hasLabels,
  isHeard,
  LIMITS,
  newId,
  suits,
} from "@formation-mcp/contract";
import fc from "fast-check";
import { expect, it } from "vitest";

const ONE = { vcpus: 1, memory_mb: 512, disk_gb: 5 };
const amount = fc.record({ vcpus: fc.nat(3), memory_mb: fc.nat(3), disk_gb: fc.nat(3) });
const labels = fc.dictionary(fc.constantFrom("a", "b"), fc.constantFrom("", "1", "2"));

it("labels hold no upper-case keys, blanks or signs with a meaning elsewhere", () => {
  const legal = { gpu: "yes", "zone/rack": "eu-1.a", "a.b_c-d": "", "0": "X" };
  expect(checkLabels(legal)).toBe(legal);
  const bad = ["", "A", "-a", "a-", "a b", "a=b", "a|b", "ä", "a\n", "a".repeat(64), "a'", "a,b", "$"];
  for (const text of bad) {
    expect(() => checkLabels({ [text]: "x" })).toThrow(FormationError);
    if (text !== "" && text !== "A") expect(() => checkLabels({ x: text })).toThrow(FormationError);
  }
  const many = Object.fromEntries(Array.from({ length: LIMITS.labels + 1 }, (_, n) => [`k${n}`, ""]));
  expect(() => checkLabels(many, "wanted")).toThrow(/wanted: 17 labels; at most 16/);
});

it("a larger node suits too, and a pinned operation suits only its node", () => {
  fc.assert(
    fc.property(amount, amount, labels, labels, (capacity, needs, has, wanted) => {
      const node = { id: newId("node"), capacity, labels: has };
      const fits = suits(node, { node_id: null, labels: wanted, needs });
      expect(fits).toBe(covers(capacity, needs) && hasLabels(has, wanted));
      expect(suits(node, { node_id: node.id, labels: wanted, needs })).toBe(fits);
      expect(suits(node, { node_id: newId("node"), labels: wanted, needs })).toBe(false);
      const more = {
        ...node,
        capacity: { ...capacity, vcpus: capacity.vcpus + 1 },
        labels: { ...has, c: "3" },
      };
      if (fits) expect(suits(more, { node_id: null, labels: wanted, needs })).toBe(true);
    }),
  );
});

it("properties of Object.prototype are no labels", () => {
  expect(hasLabels({}, { constructor: "x" })).toBe(false);
  expect(covers(ONE, ONE)).toBe(true);
});

it("a node is counted on until it has been silent for three leases", () => {
  expect(LIMITS.nodeSilentMs).toBe(3 * LIMITS.leaseMs);
  expect(isHeard({ heartbeat_at: 0 }, LIMITS.nodeSilentMs - 1)).toBe(true);
  expect(isHeard({ heartbeat_at: 0 }, LIMITS.nodeSilentMs)).toBe(false);
});
