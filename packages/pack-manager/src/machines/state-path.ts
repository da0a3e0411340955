// How an instance gets from one state to another by legal moves only.

import { INSTANCE_STATES, type InstanceState } from "@formation-mcp/contract";

/** The shortest path, without its first state; empty if both states are the same or no path exists. */
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
  const path: InstanceState[] = [to];
  for (let at = before.get(to); at !== undefined && at !== from; at = before.get(at)) path.unshift(at);
  return path;
}
