// @module-tag root
// @module-tag postgres
// @module-tag nats
// @module-tag bundles

// The rights that deploy/nats gives a worker are enough for its artifacts, and do not allow it to create or
// delete the bucket. The tests of the queue check the other rights.

import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Artifacts } from "@formation-mcp/artifacts";
import { openNatsArtifacts } from "@formation-mcp/artifacts/nats";
import { newId } from "@formation-mcp/contract";
import { connectNats, createNatsKey } from "@formation-mcp/os/nats";
import { inboxPrefixOf, type NatsRole, natsUser } from "@formation-mcp/queue/nats";
import { expect, it } from "vitest";
import { startNats } from "../support/nats.ts";

const MANY = 700_000;

async function* bytes(of: string): AsyncGenerator<Uint8Array> {
  yield Buffer.alloc(MANY, of);
}

it("a worker keeps and reads artifacts and removes logs with its own rights alone; a server removes artifacts too", async () => {
  const directory = mkdtempSync(join(tmpdir(), "nats-users-"));
  const roles: NatsRole[] = [{ role: "server" }, { role: "worker", node: newId("node") }];
  const keys = roles.map(({ role }) => join(directory, `${role}.nk`));
  for (const [index, who] of roles.entries()) {
    const entry = natsUser(createNatsKey(keys[index] ?? ""), who);
    writeFileSync(join(directory, `${who.role}s.conf`), `users: [${entry}]\n`);
  }
  copyFileSync(join(import.meta.dirname, "../../deploy/nats/nats.conf"), join(directory, "nats.conf"));
  const nats = await startNats({ configFile: join(directory, "nats.conf") });
  const open: { close(): Promise<unknown> }[] = [];
  const refused: unknown[] = [];
  const logger = {
    log: (level: string, message: string, fields?: unknown) => {
      if (level === "warn" || level === "error") refused.push([message, fields]);
    },
  };
  const artifacts: Artifacts[] = [];
  try {
    for (const [index, who] of roles.entries()) {
      const credentials = { kind: "nkey", path: keys[index] ?? "" } as const;
      const connection = await connectNats({
        servers: [nats.url],
        name: who.role,
        credentials,
        inboxPrefix: inboxPrefixOf(who),
        logger,
      });
      open.push(connection);
      const manage = who.role === "server";
      artifacts.push(
        await openNatsArtifacts({ connection, manage, cacheDir: join(directory, who.role), logger }),
      );
      open.push(artifacts[index] as Artifacts);
    }
    for (const [mine, theirs, name] of [
      [...artifacts, "op_a"],
      [...artifacts.toReversed(), "op_b"],
    ] as [Artifacts, Artifacts, string][]) {
      const { digest } = await mine.put(bytes(name.at(-1) ?? ""), { maxBytes: MANY });
      let read = 0;
      for await (const part of await theirs.get(digest)) read += part.length;
      expect(read).toBe(MANY);
      await mine.appendLog(name, [{ at: 1, stream: "stdout", text: "hello" }]);
      const { lines } = await theirs.readLog(name, { maxBytes: 1000 });
      expect(lines.map(({ text }) => text)).toEqual(["hello"]);
      await theirs.removeLog(name);
      expect(await mine.logNames()).toEqual([]);
      expect(await artifacts[1]?.collect([], -1000)).toBe(0);
      expect(await artifacts[0]?.collect([], -1000)).toBe(MANY);
    }
    expect(refused).toEqual([]);
  } finally {
    for (const each of open.reverse()) await each.close();
    await nats.stop();
    rmSync(directory, { recursive: true });
  }
});
