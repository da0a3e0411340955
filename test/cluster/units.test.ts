// systemd accepts deploy/systemd: every directive is known, every value is valid.

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import { ROOT } from "../support/server.ts";

const dir = mkdtempSync(join(tmpdir(), "formation-units-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** What systemd reports about a unit whose program exists. */
async function verdict(unit: string, change: (text: string) => string = (text) => text): Promise<string> {
  const text = readFileSync(join(ROOT, "deploy/systemd", unit), "utf8");
  const path = join(dir, basename(unit));
  writeFileSync(path, change(text.replace(/^ExecStart=\/usr\/local\/bin\/\S+/m, "ExecStart=/bin/true")));
  return analyzed(path, unit.startsWith("user/") ? ["--user"] : []);
}

async function analyzed(path: string, user: string[]): Promise<string> {
  const env = { ...process.env, XDG_RUNTIME_DIR: dir, SYSTEMD_LOG_LEVEL: "warning" };
  const run = promisify(execFile)("systemd-analyze", ["verify", "--man=no", ...user, path], { env });
  const { stdout, stderr } = await run.catch((error: { stdout: string; stderr: string }) => error);
  // Problems of the units of this machine are not reported.
  return `${stdout}${stderr}`
    .split("\n")
    .filter((line) => line.includes(basename(path)))
    .join("\n");
}

describe.each([
  "formation-mcp-http.service",
  "formation-mcp-worker.service",
  "user/formation-mcp-worker.service",
])("%s", (unit) => {
  test("has nothing that systemd does not know", async () => {
    expect(await verdict(unit)).toBe("");
  });
  test("would be told from one with a mistake in it", async () => {
    expect(
      await verdict(unit, (text) =>
        text
          .replace("KillMode=process", "KillMode=gently")
          .replace("NoNewPrivileges=yes", "NoNewPrivileges=perhaps"),
      ),
    ).not.toBe("");
  });
});

test("what Debian's unit of NATS is given is what systemd takes, and names no program twice", async () => {
  const given = readFileSync(join(ROOT, "deploy/systemd/nats-server.service.d/formation.conf"), "utf8");
  const debian =
    "[Service]\nPrivateTmp=true\nType=simple\nExecStart=/usr/sbin/nats-server -c /etc/nats-server.conf\nExecReload=/bin/kill -s HUP $MAINPID\nUser=nobody\n";
  writeFileSync(join(dir, "nats-formation.service"), debian);
  mkdirSync(join(dir, "nats-formation.service.d"));
  const say = async (text: string) => {
    writeFileSync(join(dir, "nats-formation.service.d/formation.conf"), text);
    return analyzed(join(dir, "nats-formation.service"), []);
  };
  expect(await say(given)).toBe("");
  expect(await say(given.replace("ExecStart=\n", ""))).toMatch(/more than one ExecStart/);
});

test("the worker's units leave its VMs alone, and give it the time that it drains for", () => {
  for (const unit of ["formation-mcp-worker.service", "user/formation-mcp-worker.service"]) {
    const text = readFileSync(join(ROOT, "deploy/systemd", unit), "utf8");
    expect(text).toMatch(/^KillMode=process$/m);
    expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1])).toBeGreaterThan(60);
  }
});

/**
 * The directives that imply NoNewPrivileges where systemd is unprivileged, as in a user manager:
 * systemd.exec(5), "NoNewPrivileges=".
 */
const NO_NEW_PRIVILEGES = [
  "NoNewPrivileges",
  "DynamicUser",
  "LockPersonality",
  "MemoryDenyWriteExecute",
  "PrivateDevices",
  "ProtectClock",
  "ProtectHostname",
  "ProtectKernelLogs",
  "ProtectKernelModules",
  "ProtectKernelTunables",
  "RestrictAddressFamilies",
  "RestrictNamespaces",
  "RestrictRealtime",
  "RestrictSUIDSGID",
  "SystemCallArchitectures",
  "SystemCallFilter",
  "SystemCallLog",
];

test("the user's worker may still call newuidmap: nothing in its unit takes setuid programs from it", () => {
  const text = readFileSync(join(ROOT, "deploy/systemd/user/formation-mcp-worker.service"), "utf8");
  const directives = [...text.matchAll(/^([A-Za-z]+)=/gm)].map(([, name]) => name);
  expect(directives.filter((name) => NO_NEW_PRIVILEGES.includes(name ?? ""))).toEqual([]);
});
