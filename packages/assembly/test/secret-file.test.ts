import { fork } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newBootstrapToken, readHttpConfiguration } from "@formation-mcp/assembly/http";
import { silentLogger } from "@formation-mcp/contract";
import { afterEach, beforeEach, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "formation-secret-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const key = () => join(dir, "server", "master.key");
const open = () =>
  newBootstrapToken(
    readHttpConfiguration({ stateDir: dir }, { HOME: dir }),
    "http://127.0.0.1:3010",
    silentLogger,
  );

test("the server's secret is made once, 32 bytes, its user's alone", async () => {
  expect(await open()).toMatch(/^fmb_/);
  const made = readFileSync(key());
  expect(made).toHaveLength(32);
  expect(statSync(key()).mode & 0o777).toBe(0o600);
  expect(statSync(join(dir, "server")).mode & 0o777).toBe(0o700);
  await open();
  expect(readFileSync(key())).toEqual(made);
  expect(readdirSync(join(dir, "server"))).toEqual(["master.key"]);
});

test("processes that come first at the same time all have the same secret", async () => {
  const child = join(import.meta.dirname, "secret-child.ts");
  const children = Array.from({ length: 4 }, () =>
    fork(child, [dir], { execArgv: ["--conditions=formation-source"], stdio: "ignore" }),
  );
  const secrets = await Promise.all(children.map(async (each) => (await once(each, "message"))[0]));
  await Promise.all(children.map((each) => each.exitCode ?? once(each, "exit")));
  expect(new Set(secrets).size).toBe(1);
});

test.each([
  ["others may read", () => chmodSync(key(), 0o644)],
  ["is too short", () => writeFileSync(key(), "short")],
])("a secret that %s is not used, and not made anew", async (_, spoil) => {
  await open();
  spoil();
  const before = readFileSync(key());
  await expect(open()).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining("master.key"),
  });
  expect(readFileSync(key())).toEqual(before);
});
