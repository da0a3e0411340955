// The worker program of the conformance suite; see `Subject.worker`.

import { openFakeHypervisor } from "@formation-mcp/hypervisor/fake";
import { openQemuHypervisor } from "@formation-mcp/hypervisor/qemu";
import type { WorkerOrders } from "@formation-mcp/hypervisor/testing/conformance";
import { sharedKernel } from "@formation-mcp/hypervisor/testing/kernel";

const [driver, text = ""] = process.argv.slice(2);
const { stateDir, spec, steps, leashMs } = JSON.parse(text) as WorkerOrders;
const hypervisor =
  driver === "fake"
    ? await openFakeHypervisor({ stateDir })
    : await openQemuHypervisor({ stateDir, ...(await sharedKernel()) });
const { signal } = new AbortController();
await hypervisor.recover();
for (const step of steps) {
  process.stdout.write(`${step}\n`);
  if (step === "create") await hypervisor.create(spec);
  if (step === "start")
    await hypervisor.start(spec.id, { signal, ...(leashMs === undefined ? {} : { leashMs }) });
  if (step === "pause") await hypervisor.pause(spec.id);
  if (step === "live") await hypervisor.waitLive(spec.id, { signal, timeoutMs: 60_000 });
  if (step === "stop") await hypervisor.stop(spec.id, { timeoutMs: 5000 });
  if (step === "remove") await hypervisor.remove(spec.id);
}
process.stdout.write("done\n");
setInterval(() => {}, 60_000);
