import {
  canMove,
  INSTANCE_DESIRES,
  INSTANCE_STATES,
  type Instance,
  type InstanceState,
} from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import fc from "fast-check";
import { expect, test } from "vitest";
import { statePath } from "../src/machines/state-path.ts";
import { decide, type Facts } from "../src/reconcile/rules.ts";

const STATES = Object.keys(INSTANCE_STATES) as InstanceState[];
const MACHINES = ["absent", "created", "running", "paused", "stopped", "broken"] as const;

const facts = fc
  .record({
    state: fc.constantFrom(...STATES),
    desired: fc.constantFrom(...INSTANCE_DESIRES),
    machine: fc.constantFrom(...MACHINES),
    hasMachine: fc.boolean(),
    live: fc.boolean(),
    pending: fc.boolean(),
  })
  .map(({ state, desired, machine, hasMachine, live, pending }): Facts => {
    const instance = {
      state,
      desired,
      machine_id: hasMachine ? "dep.1" : null,
      observed: null,
      error: null,
    } as Instance;
    const status: MachineStatus = {
      id: "dep.1",
      state: hasMachine ? machine : "absent",
      pid: null,
      accelerator: null,
      endpoints: [],
      egress: { mode: "none", reason: "" },
      guest: { started_at: live ? 1 : null, listening: [], exit_code: null, problem: null },
      exit: null,
      problem: null,
    };
    return { instance, status, ports: [], pending, hostBootedAt: 0 };
  });

/** The facts after a decision was carried out. */
function after(given: Facts): Facts {
  const { state, error, action } = decide(given);
  const instance = { ...given.instance, state, ...(error === undefined ? {} : { error }) };
  const machine = action === "stop" ? "stopped" : action === "remove" ? "absent" : given.status.state;
  return { ...given, instance, status: { ...given.status, state: machine } };
}

test("every decision can be reached by legal moves", () => {
  fc.assert(
    fc.property(facts, (given) => {
      const { state } = decide(given);
      const from = given.instance.state;
      const way = statePath(from, state);
      if (from !== state) expect(way.at(-1)).toBe(state);
      let at = from;
      for (const next of way) {
        expect(canMove(INSTANCE_STATES, at, next)).toBe(true);
        at = next;
      }
    }),
    { numRuns: 2000 },
  );
});

test("reconciling is idempotent", () => {
  fc.assert(
    fc.property(facts, (given) => {
      const once = after(given);
      const again = decide(once);
      expect(again.action).toBe("none");
      expect(again.state).toBe(once.instance.state);
    }),
    { numRuns: 2000 },
  );
});

test("without an unfinished operation no instance stays in a state that only an operation leaves, or running with a dead machine", () => {
  fc.assert(
    fc.property(facts, (given) => {
      const { instance, status } = after({ ...given, pending: false });
      expect(["creating", "starting", "stopping", "pausing", "deleting"]).not.toContain(instance.state);
      if (instance.state === "running") expect(status.state).toBe("running");
      if (instance.state === "stopped") expect(status.state).not.toBe("running");
    }),
    { numRuns: 2000 },
  );
});

test("while an operation is pending no machine is touched", () => {
  fc.assert(
    fc.property(facts, (given) => {
      expect(decide({ ...given, pending: true }).action).toBe("none");
    }),
    { numRuns: 2000 },
  );
});
