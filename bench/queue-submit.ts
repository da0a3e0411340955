// What the comparisons submit: the smallest possible build, in the store of any driver.

import type { Id } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";

const NEEDS = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

/** A queued build whose wake-up has not been sent yet. */
export async function submit(store: Store): Promise<Id<"op">> {
  const request = buildRequest({ operation: { owner: "bench", needs: NEEDS } });
  await store.submit(request);
  return request.operation.id;
}
