// Which record a log belongs to, and whether it still stands: logs are artifacts, and nothing but their name ties them to it.

import { FormationError, idKind, parseId } from "@formation-mcp/contract";
import type { Store } from "./port.ts";

/** Whether the record of a log is still there; a name that is no record's of ours is taken for somebody's. */
export async function isLogNamed(store: Pick<Store, "build" | "instance">, name: string): Promise<boolean> {
  try {
    const kind = idKind(name);
    if (kind === "bld") await store.build(null, parseId("bld", name, "log"));
    if (kind !== "vm") return true;
    return (await store.instance(null, parseId("vm", name, "log"))).state !== "deleted";
  } catch (thrown) {
    if (thrown instanceof FormationError && thrown.code === "not_found") return false;
    throw thrown;
  }
}
