// @module-tag nats

// The commands of docs/operating.md, as far as they run on one machine: the output of each step is the input
// of the next.

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ROOT } from "../support/server.ts";

const GUIDE = readFileSync(join(ROOT, "docs/operating.md"), "utf8");
const dir = mkdtempSync(join(tmpdir(), "formation-guide-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The commands of the code block that contains this text. */
function commandsWith(word: string): string {
  const blocks = [...GUIDE.matchAll(/^ *```sh\n([\s\S]*?)^ *```$/gm)].map(([, text]) => text ?? "");
  const [found, ...more] = blocks.filter((text) => text.includes(word));
  if (found === undefined || more.length > 0) throw new Error(`${word} is not in one block of the guide`);
  return found;
}

const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: dir, encoding: "utf8" });

beforeAll(() => {
  execFileSync("sh", ["-eu", "-c", commandsWith("certify()")], { cwd: dir, stdio: "ignore" });
});

test("the certificates are the authority's, for the names that were said, and their keys are nobody else's to read", () => {
  expect(openssl("x509", "-in", "ca.pem", "-noout", "-text")).toMatch(/CA:TRUE/);
  for (const name of ["db.example.org", "nats.example.org", "server-1", "rack-1"]) {
    expect(openssl("verify", "-CAfile", "ca.pem", "-verify_hostname", name, `${name}.pem`)).toMatch(/: OK/);
    expect(statSync(join(dir, `${name}.key`)).mode & 0o077).toBe(0);
  }
  expect(() => openssl("verify", "-CAfile", "ca.pem", "-verify_hostname", "other", "rack-1.pem")).toThrow();
});

test("NATS takes its configuration where the drop-in starts it, with these certificates", () => {
  const home = join(dir, "nats");
  mkdirSync(home);
  cpSync(join(ROOT, "deploy/nats"), home, { recursive: true });
  for (const name of ["servers", "workers"]) writeFileSync(join(home, `${name}.conf`), "users: []\n");
  cpSync(join(dir, "ca.pem"), join(home, "ca.pem"));
  for (const kind of ["pem", "key"])
    cpSync(join(dir, `nats.example.org.${kind}`), join(home, `server.${kind}`));
  const dropIn = readFileSync(join(ROOT, "deploy/systemd/nats-server.service.d/formation.conf"), "utf8");
  const [, args = ""] = /^ExecStart=\/usr\/sbin\/nats-server (.+)$/m.exec(dropIn) ?? [];
  const [, into = ""] = /install -o nats .* (\S+)\n/.exec(commandsWith("daemon-reload")) ?? [];
  expect(dropIn).toContain(`\nWorkingDirectory=${into}\n`);
  const env = { PATH: "/usr/sbin:/usr/bin:/bin", NATS_STORE: join(dir, "store") };
  const check = (cwd: string) =>
    execFileSync("nats-server", [...args.split(" "), "-t"], { cwd, env, stdio: "ignore" });
  expect(() => check(home)).not.toThrow();
  rmSync(join(home, "server.key"));
  expect(() => check(home)).toThrow();
});

test("every file of this repository that a step names is here", () => {
  const named = [...GUIDE.matchAll(/\bdeploy\/[\w./-]*\w/g)].map(([path]) => path);
  expect(named.length).toBeGreaterThan(10);
  // Made by the earlier steps.
  for (const path of named.filter((each) => !/^deploy\/nats\/server\.(pem|key)$/.test(each))) {
    expect(() => statSync(join(ROOT, path)), path).not.toThrow();
  }
});
