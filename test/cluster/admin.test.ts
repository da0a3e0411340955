// deploy/systemd/formation-admin gives an operator's command the same settings and secrets as the server's
// unit gives the server. The test needs no systemd: it checks the arguments of systemd-run.

import { execFile } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { ROOT } from "../support/server.ts";

const dir = mkdtempSync(join(tmpdir(), "formation-admin-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const UNIT = read("deploy/systemd/formation-mcp-http.service");
const values = (directive: string) =>
  [...UNIT.matchAll(new RegExp(`^${directive}=(.*)$`, "gm"))].map(([, value]) => value ?? "");

/** The arguments of systemd-run. */
async function told(...words: string[]): Promise<string[]> {
  const fake = join(dir, "systemd-run");
  writeFileSync(fake, '#!/bin/sh\nprintf "%s\\n" "$@"\n');
  chmodSync(fake, 0o755);
  const env = { PATH: `${dir}:${process.env["PATH"]}` };
  const { stdout } = await promisify(execFile)(join(ROOT, "deploy/systemd/formation-admin"), words, { env });
  return stdout.trimEnd().split("\n");
}

const after = (words: string[], option: string) => words.filter((_, at) => words[at - 1] === option);

test("a command has the unit's file, and each of its secrets from where systemd takes it", async () => {
  const words = await told("audit", "verify");
  expect(after(words, "-p")).toContain(`EnvironmentFile=${values("EnvironmentFile")[0]}`);
  const credentials = new Map(
    values("LoadCredential").map((value) => value.split(":", 2) as [string, string]),
  );
  const secrets = values("Environment").flatMap((setting) => {
    const [name, credential] = setting.split("=%d/", 2);
    return credential === undefined ? [] : [`${name}=${credentials.get(credential)}`];
  });
  expect(secrets).toHaveLength(credentials.size);
  expect(after(words, "-E").filter((setting) => !setting.startsWith("FORMATION_STATE_DIR="))).toEqual(
    secrets,
  );
});

test("it runs the unit's program, with the words as they were given", async () => {
  const words = await told("export", "--to", "/root/a b");
  expect(words.slice(-4)).toEqual([values("ExecStart")[0], "export", "--to", "/root/a b"]);
});

test("no file of settings names a credential of one unit: the command's would not be there", () => {
  expect(read("docs/operating.md")).not.toContain("/run/credentials/");
});
