import {
  BUILD_STATES,
  canMove,
  DEPLOYMENT_STATES,
  INSTANCE_DESIRES,
  INSTANCE_HOLDINGS,
  INSTANCE_STATES,
  isFinal,
  LOSABLE_STATES,
  OPERATION_STATES,
  RESTING_STATES,
  UP_STATES,
} from "@formation-mcp/contract";
import { describe, expect, it } from "vitest";

type Table = Record<string, readonly string[]>;

const TABLES: { name: string; table: Table; first: string; final: string[] }[] = [
  {
    name: "operations",
    table: OPERATION_STATES,
    first: "queued",
    final: ["cancelled", "completed", "failed"],
  },
  { name: "builds", table: BUILD_STATES, first: "queued", final: ["cancelled", "failed", "ready"] },
  {
    name: "deployments",
    table: DEPLOYMENT_STATES,
    first: "queued",
    final: ["cancelled", "failed", "superseded"],
  },
  { name: "instances", table: INSTANCE_STATES, first: "creating", final: ["deleted"] },
];

/** All states that moves lead to from one state, itself included. */
function reachable(table: Table, from: string): Set<string> {
  const seen = new Set([from]);
  for (const state of seen) for (const next of table[state] ?? []) seen.add(next);
  return seen;
}

describe.each(TABLES)("the states of $name", ({ table, first, final }) => {
  const states = Object.keys(table);

  it("are closed: every move leads to a state of the table, once, and never to where it began", () => {
    for (const [state, next] of Object.entries(table)) {
      expect(states).toEqual(expect.arrayContaining([...next]));
      expect(new Set(next).size).toBe(next.length);
      expect(next).not.toContain(state);
    }
  });

  it("are all reachable from the first", () => {
    expect([...reachable(table, first)].sort()).toEqual(states.sort());
  });

  it("end in exactly the final ones, which no move leaves", () => {
    expect(states.filter((state) => isFinal(table, state)).sort()).toEqual(final);
    for (const end of final)
      for (const state of states) expect(canMove(table, end, state)).toBe(state === end);
  });

  it("have an end within reach, from everywhere", () => {
    for (const state of states) {
      const ends = [...reachable(table, state)].filter((next) => isFinal(table, next));
      expect(ends.length).toBeGreaterThan(0);
    }
  });

  it("may stay what they are: writing the same state again is no move", () => {
    for (const state of states) expect(canMove(table, state, state)).toBe(true);
  });
});

describe("the moves of a record", () => {
  it("an operation is requeued and claimed again, but never runs after it ended", () => {
    expect(canMove(OPERATION_STATES, "running", "queued")).toBe(true);
    expect(canMove(OPERATION_STATES, "queued", "completed")).toBe(false);
    for (const end of ["completed", "failed", "cancelled"] as const) {
      expect(canMove(OPERATION_STATES, end, "running")).toBe(false);
    }
  });

  it("an instance can become deleted or failed from every state but deleted", () => {
    for (const state of Object.keys(INSTANCE_STATES) as (keyof typeof INSTANCE_STATES)[]) {
      if (state === "deleted") continue;
      expect(canMove(INSTANCE_STATES, state, "deleted")).toBe(true);
      expect(canMove(INSTANCE_STATES, state, "failed")).toBe(true);
    }
  });

  it("an instance with vCPUs and memory has a machine that runs or may run, and its disk", () => {
    for (const { compute, disk, machine } of Object.values(INSTANCE_HOLDINGS)) {
      expect(compute).toBe(machine === "up" || machine === "unknown");
      expect(disk).toBe(machine !== "none");
    }
  });

  it("an instance of a silent node can be lost, and only a stopped or failed one starts elsewhere", () => {
    for (const state of LOSABLE_STATES) expect(canMove(INSTANCE_STATES, state, "lost")).toBe(true);
    expect(RESTING_STATES).toEqual(["stopped", "failed"]);
    expect(UP_STATES).toEqual(["starting", "running", "pausing", "paused", "stopping"]);
  });

  it("every desire but deleted is a state that an instance can be in and stay in", () => {
    for (const desire of INSTANCE_DESIRES) expect(Object.keys(INSTANCE_STATES)).toContain(desire);
  });
});
