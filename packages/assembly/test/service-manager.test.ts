import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServiceManager } from "@formation-mcp/assembly/http";
import { silentLogger } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { afterAll, expect, test } from "vitest";

const dir = mkdtempSync(join(tmpdir(), "formation-notify-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** What stands for systemd-notify, and writes down what it was told and where to. */
const told = join(dir, "told");
writeFileSync(join(dir, "systemd-notify"), `#!/bin/sh\necho "$NOTIFY_SOCKET $*" >> ${told}\n`);
chmodSync(join(dir, "systemd-notify"), 0o755);
const lines = () => readFileSync(told, "utf8").trim().split("\n");

test("systemd hears that we are ready, that we live as often as it wants, and that we leave", async () => {
  const env = { NOTIFY_SOCKET: "/run/s", WATCHDOG_USEC: "200000", PATH: dir };
  const manager = createServiceManager(silentLogger, env);
  await manager.ready("working");
  expect(lines()).toEqual(["/run/s --ready --status=working"]);
  await waitFor(() => lines().filter((line) => line === "/run/s WATCHDOG=1").length >= 2, {
    timeoutMs: 20_000,
    what: "two signs of life",
  });
  await manager.leaving();
  manager.close();
  expect(lines().at(-1)).toMatch(/WATCHDOG=1|STOPPING=1/);
  expect(lines().join()).toContain("STOPPING=1");
});

test("whoever was started by hand tells nobody, and a manager that does not answer stops nothing", async () => {
  const before = lines().length;
  await createServiceManager(silentLogger, { PATH: dir }).ready("working");
  expect(lines()).toHaveLength(before);
  const wrong = createServiceManager(silentLogger, { NOTIFY_SOCKET: join(dir, "nothing") });
  await wrong.ready("working");
  wrong.close();
});
