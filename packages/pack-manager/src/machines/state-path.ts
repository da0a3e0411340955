// How an instance gets from one state to another by legal moves alone.

import { INSTANCE_STATES, type InstanceState } from "@formation-mcp/contract";

/** The shortest way as the states after the first; empty if it is there already or no way leads there. */
export function statePath(from: InstanceState, to: InstanceState): InstanceState[] {
  if (from === to) return [];
  const before = new Map<InstanceState, InstanceState>();
  const open: InstanceState[] = [from];
  for (let at = open.shift(); at !== undefined; at = open.shift()) {
    for (const next of INSTANCE_STATES[at]) {
      if (next === from || before.has(next)) continue;
      before.set(next, at);
      if (next === to) return walkBack(before, from, to);
      open.push(next);
    }
  }
  return [];
}

function walkBack(
  before: Map<InstanceState, InstanceState>,
  from: InstanceState,
  to: InstanceState,
): InstanceState[] {
  const way: InstanceState[] = [to];
  for (let at = before.get(to); at !== undefined && at !== from; at = before.get(at)) way.unshift(at);
  return way;
}
