// @module-tag slow

// Two machines of one instance never run at a time: the machine of a worker that was killed or frozen during
// a shipment has ended before another one begins. Processes, store and queue are real; the drivers are the
// fakes, whose machines are processes.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { hasEnded, newId } from "@formation-mcp/contract";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { waitFor } from "@formation-mcp/os";
import { freePort } from "@formation-mcp/os/testing/free-port";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { describe, expect, test } from "vitest";
import { requests } from "./support/requests.ts";
import { type Site, siteAt } from "./support/site.ts";
import { clearSite, machinesRunning } from "./support/site-state.ts";

const SCRIPT = fileURLToPath(new URL("support/worker.ts", import.meta.url));
/** Half of the lease of the tests' workers. */
const LEASH_MS = 2500;

interface Node extends AsyncDisposable {
  site: Site;
  child: ChildProcess;
}

function temporary(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), "pm-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

async function begin(shared: string, name: string): Promise<Node> {
  const site = siteAt(join(shared, name), shared);
  mkdirSync(site.root);
  const args = ["--conditions=formation-source", SCRIPT, site.root, "fake", newId("node"), shared];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
  await new Promise((resolve, reject) => {
    child.stdout.once("data", resolve);
    child.once("exit", () => reject(new Error("The worker did not start.")));
  });
  const gone = new Promise((resolve) => child.once("exit", resolve));
  return {
    site,
    child,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await gone;
      await clearSite(site, "fake");
    },
  };
}

describe.concurrent("a worker in the middle of a shipment", { timeout: 120_000 }, () => {
  for (const fate of ["SIGKILL", "SIGSTOP"] as const) {
    test(`leaves no machine beside the next attempt's on ${fate}`, async () => {
      using home = temporary();
      const shared = home.path;
      const store = await openSqliteStore({ path: siteAt(shared).store });
      const queue = await openEmbeddedQueue({ path: siteAt(shared).queue });
      const ask = requests(store, queue);
      const go = join(shared, "go");
      const port = await freePort();
      const listens = `until [ -e ${go} ]; do sleep 0.1; done; exec /bin/busybox httpd -f -p ${port} -h .`;
      await using one = await begin(shared, "one");
      const { operation, instance } = await ask.create({
        run: ["echo built"],
        expose: [port],
        entrypoint: ["/bin/sh", "-c", listens],
      });
      const until = (what: string, condition: () => boolean | Promise<boolean>) =>
        waitFor(condition, { timeoutMs: 30_000, everyMs: 20, what });
      await until("the first machine", () => machinesRunning(one.site, "fake").length === 1);
      await using two = await begin(shared, "two");
      const running = () => [one, two].flatMap(({ site }) => machinesRunning(site, "fake"));
      let most = 0;
      const sampling = setInterval(() => {
        most = Math.max(most, running().length);
      }, 20);
      try {
        // Longer than the leash: the lease is renewed, so the machine runs on.
        await delay(LEASH_MS * 1.5);
        expect(machinesRunning(one.site, "fake")).toHaveLength(1);
        one.child.kill(fate);
        writeFileSync(go, "");
        await until("the shipment to end", async () => hasEnded(await store.operation(null, operation.id)));
        expect(await store.operation(null, operation.id)).toMatchObject({ state: "completed", attempt: 2 });
        const { machine_id } = await store.instance(null, instance);
        expect(running()).toEqual([machine_id]);
        if (fate === "SIGSTOP") {
          one.child.kill("SIGCONT");
          const left = join(one.site.hypervisor, "machines");
          await until("what it left to go", () => readdirSync(left).length === 0);
        }
        // After the outcome the machine is on no leash.
        two.child.kill("SIGKILL");
        await delay(LEASH_MS * 1.5);
        expect(running()).toEqual([machine_id]);
        expect(await store.instance(null, instance)).toMatchObject({ state: "running" });
        expect(most).toBe(1);
      } finally {
        clearInterval(sampling);
        await queue.close();
        await store.close();
      }
    });
  }
});
