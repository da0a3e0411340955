// Which record a log belongs to, and whether that record still exists. Logs are artifacts; only their names
// refer to records.

import { FormationError, idKind, parseId } from "@formation-mcp/contract";
import type { Store } from "./port.ts";

/**
 * Whether the record of a log exists: the build, or the instance that is not deleted. True also for a name of
 * any other form, because such a log is not the store's to judge.
 */
export async function hasLogRecord(store: Pick<Store, "build" | "instance">, name: string): Promise<boolean> {
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
