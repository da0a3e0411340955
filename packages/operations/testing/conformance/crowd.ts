// Many callers of one store, spread over several connections.

import type { Store } from "@formation-mcp/operations";
import type { Reopen, World } from "./world.ts";

export const CALLERS = 12;
export const EACH_CALLER = [...Array(CALLERS).keys()];

/** Waits for all calls; returns the values of those that succeeded and the error codes of the others. */
export async function outcomes<T>(calls: Promise<T>[]): Promise<{ made: T[]; codes: string[] }> {
  const settled = await Promise.allSettled(calls);
  return {
    made: settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : [])),
    codes: settled.flatMap((each) =>
      each.status === "rejected" ? [String(each.reason?.code ?? each.reason)] : [],
    ),
  };
}

/** The store, and `one(n)`: the connection that caller n uses. */
export async function openCrowd(open: () => World, reopen: Reopen) {
  const here = open();
  const stores = [here.store, (await reopen()) ?? here.store, (await reopen()) ?? here.store];
  return { here, one: (n: number) => stores[n % stores.length] as Store };
}
