// @module-tag buildah
// @module-tag qemu
// @module-tag bundles

// Hostile contexts over real stdio that try to escape their directory, hang the server or include a secret:
// each is refused with a remedy, nothing of it is stored, and files left out are reported.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RawServer, type Reply } from "../support/raw.ts";
import { dismissWorker, type Structured, temporaryState } from "../support/server.ts";

let state: ReturnType<typeof temporaryState>;
let server: RawServer;
/** It contains `allowed`, `link` (to allowed), and `outside`. */
let ground: string;
let allowed: string;

beforeAll(async () => {
  state = temporaryState();
  ground = realpathSync(mkdtempSync(join(tmpdir(), "formation-context-")));
  allowed = join(ground, "allowed");
  for (const path of ["allowed/app", "outside"]) mkdirSync(join(ground, path), { recursive: true });
  writeFileSync(join(ground, "outside/secret"), "canary-outside");
  writeFileSync(join(allowed, "app/main.sh"), "#!/bin/sh\necho main\n");
  symlinkSync(allowed, join(ground, "link"));
  server = await RawServer.start({
    stateDir: state.dir,
    args: ["--allow-dir", join(ground, "link"), "--allow-dir", state.dir],
  });
});
afterAll(async () => {
  try {
    expect(await server?.close()).toBe(0);
    expect(server.impure).toEqual([]);
  } finally {
    await state.close();
    rmSync(ground, { recursive: true, force: true });
  }
});

const LIST = "find . -type f | sort; find . -type f -exec cat {} +";
const formfile = (include: string[]): Structured => ({
  from: "busybox",
  name: "c",
  include,
  run: [LIST],
  entrypoint: ["true"],
});
const fromDir = (context_dir: string, include: string[], more: Structured = {}) =>
  server.call("pack_build", { formfile: formfile(include), context_dir, wait_seconds: 40, ...more });
const fromFiles = (context_files: unknown, include: string[] = ["."], more: Structured = {}) =>
  server.call("pack_build", { formfile: formfile(include), context_files, wait_seconds: 40, ...more });

async function expectRefused(reply: Reply, says: RegExp): Promise<void> {
  expect(reply.isError, reply.text).toBe(true);
  expect(reply.text).toMatch(says);
  expect(reply.text).toMatch(/What to do: /);
  expect(reply.text).not.toMatch(/canary|root:|inside the server/);
  expect(Buffer.byteLength(reply.text)).toBeLessThan(20_000);
  const { structured } = await server.call("build_list", {});
  expect((structured["builds"] as Structured[]).filter(({ state: at }) => at !== "ready")).toEqual([]);
}

/** A directory below the allowed one, filled by a shell script; `$OUT` is the directory outside. */
function place(name: string, script: string): string {
  const dir = join(allowed, name);
  mkdirSync(dir, { recursive: true });
  execFileSync("/bin/sh", ["-ec", script], {
    cwd: dir,
    env: { OUT: join(ground, "outside"), PATH: process.env["PATH"] },
  });
  return dir;
}

/** A directory inside the state directory of the program, which may not exist yet. */
function scratch(): string {
  const dir = join(state.dir, "scratch", "inside");
  mkdirSync(dir, { recursive: true });
  return dir;
}

describe("context_dir is refused", () => {
  const tries: [string, () => string, string[], RegExp][] = [
    ["outside of what is allowed", () => join(ground, "outside"), ["."], /not in an allowed directory/],
    ["through ..", () => join(allowed, "app/../../outside"), ["."], /not in an allowed directory/],
    [
      "as a sibling whose name only begins alike",
      () => place("../allowed-not", "touch a"),
      ["."],
      /not in an allowed directory/,
    ],
    ["when it is relative", () => "app", ["."], /absolute/],
    ["when it is home-relative", () => "~", ["."], /absolute/],
    ["with a NUL in it", () => `${allowed}\0/x`, ["."], /absolute/],
    ["when nothing is there", () => join(allowed, "none"), ["."], /no directory/],
    ["when it is a file", () => join(allowed, "app/main.sh"), ["."], /no directory/],
    ["when it is /proc", () => "/proc", ["self/environ"], /not in an allowed/],
    ["when it is a device", () => "/dev/zero", ["."], /no directory/],
    [
      "when it is a link that leads out",
      () => join(place("l1", 'ln -s "$OUT" way'), "way"),
      ["."],
      /not in an allowed/,
    ],
    [
      "when a file in it is a link that leads out",
      () => place("l2", 'ln -s "$OUT/secret" s'),
      ["."],
      /leads out/,
    ],
    ["when a link in it is absolute", () => place("l3", "touch a; ln -s $PWD/a b"), ["."], /leads out/],
    [
      "when a chain of links leads out",
      () => place("l4", "mkdir d; ln -s .. d/up; ln -s d/up/.. e; ln -s e/.. f"),
      ["."],
      /leads out/,
    ],
    ["when links run in a circle", () => place("l5", "ln -s b a; ln -s a b"), ["."], /leads out/],
    [
      "when include goes through a link",
      () => place("l6", 'ln -s "$OUT" d'),
      ["d/secret"],
      /goes through the link/,
    ],
    ["when include names a pipe", () => place("p1", "mkfifo p"), ["p"], /pipe/],
    ["when a pipe lies in it", () => place("p2", "mkfifo p"), ["."], /pipe/],
    [
      "when .dockerignore is a pipe",
      () => place("p3", "mkfifo .dockerignore; touch a"),
      ["a"],
      /not a regular file/,
    ],
    [
      "when .dockerignore is a link",
      () => place("p4", 'ln -s "$OUT/secret" .dockerignore; touch a'),
      ["a"],
      /not a regular file/,
    ],
    [
      "when a name has a line break",
      () => place("n1", "touch \"$(printf 'a\\nb')\""),
      ["."],
      /control characters/,
    ],
    [
      "when a name has an escape sequence",
      () => place("n2", "touch \"$(printf 'a\\033[2Jb')\""),
      ["."],
      /control characters/,
    ],
    ["when a name is not UTF-8", () => place("n3", "touch \"$(printf 'a\\377')\""), ["."], /not UTF-8/],
    ["when it is the program's own", () => state.dir, ["."], /program's own/],
    ["when it lies in the program's own", scratch, ["."], /program's own/],
    ["when include climbs", () => allowed, ["../outside/secret"], /climbs/],
    ["when include is absolute", () => allowed, ["/etc/passwd"], /absolute/],
    ["together with context_files", () => allowed, ["."], /together/],
  ];
  test.each(tries)("%s", async (what, dir, include, says) => {
    const more = what.startsWith("together") ? { context_files: { a: "" } } : {};
    await expectRefused(await fromDir(dir(), include, more), says);
  });

  test("when a socket lies in it", async () => {
    const dir = place("sock", "true");
    const socket = createServer().listen(join(dir, "s"));
    await new Promise((resolve) => socket.once("listening", resolve));
    await expectRefused(await fromDir(dir, ["."]), /socket/);
    socket.close();
  });

  test("when a file is swapped for a link between the look and the reading, however often it is tried", async () => {
    const dir = place("swap", "echo inside > a; for n in $(seq 100); do echo $n > f$n; done");
    const swapper = spawn("/bin/sh", ["-c", 'while :; do ln -sfn "$OUT/secret" a; ln -fn f1 a; done'], {
      cwd: dir,
      env: { OUT: join(ground, "outside"), PATH: process.env["PATH"] },
      stdio: "ignore",
    });
    for (let round = 0; round < 6; round++) {
      const reply = await fromDir(dir, ["."], { no_cache: true });
      const log = reply.isError
        ? reply.text
        : (await server.call("build_get", { build_id: reply.structured["build_id"], log_tail: 500 })).text;
      expect(log).not.toContain("canary");
      if (reply.isError) expect(reply.text).toMatch(/changed while|leads out/);
    }
    swapper.kill("SIGKILL");
    await once(swapper, "exit");
  });
});

test("a directory that is allowed through a link is the directory it leads to", async () => {
  const { structured } = await fromDir(join(ground, "link", "app"), ["."]);
  expect(structured).toMatchObject({ state: "ready" });
});

test("likely secrets are left out and said to be, unless they are named", async () => {
  const dir = place(
    "secrets",
    "mkdir -p .ssh .aws sub/.gnupg .git; for f in .env .ENV.local sub/.env.production .ssh/id_rsa .aws/credentials sub/.gnupg/k tls.pem sub/TLS.KEY .git/config; do echo canary-$f > $f; done; echo fine > app.txt",
  );
  const log = async (include: string[]) => {
    const { structured } = await fromDir(dir, include);
    expect(structured).toMatchObject({ state: "ready" });
    const { text } = await server.call("build_get", { build_id: structured["build_id"] });
    return { text, warnings: String(structured["warnings"]) };
  };
  const all = await log(["."]);
  expect(all.text).toContain("fine");
  expect(all.text).not.toContain("canary");
  for (const name of [".env", ".ENV.local", ".ssh", ".aws", "tls.pem"]) expect(all.warnings).toContain(name);
  const named = await log([".", ".env", "sub/TLS.KEY"]);
  expect(named.text.match(/canary-\S+/g)?.sort()).toEqual(["canary-.env", "canary-sub/TLS.KEY"]);
});

test("what holds the program's own directory comes without it", async () => {
  const home = place("home", "mkdir -p .local/state; echo fine > a");
  const own = join(home, ".local/state/formation-mcp");
  const other = await RawServer.start({ stateDir: own, args: ["--allow-dir", home] });
  const env = { TOKEN: "canary-of-another-build" };
  await other.call("pack_build", {
    formfile: { from: "busybox", name: "s", env, entrypoint: ["true"] },
    wait_seconds: 40,
  });
  const { structured } = await other.call("pack_build", {
    formfile: formfile(["."]),
    context_dir: home,
    wait_seconds: 40,
  });
  const { text } = await other.call("build_get", { build_id: structured["build_id"], log_tail: 500 });
  expect(text).toContain("./a");
  expect(text).not.toMatch(/canary|formation\.db/);
  await expectRefusedBy(other, home, [".local/state/formation-mcp/formation.db"]);
  await other.close();
  await dismissWorker(own);
});

async function expectRefusedBy(other: RawServer, context_dir: string, include: string[]): Promise<void> {
  const reply = await other.call("pack_build", { formfile: formfile(include), context_dir });
  expect(reply.isError).toBe(true);
  expect(reply.text).toMatch(/program's own/);
}

describe("context_files are refused", () => {
  const name = (path: string) => ({ [path]: "x" });
  const tries: [string, unknown, RegExp][] = [
    ["that climb", name("../a"), /climbs/],
    ["that climb later", name("a/../../b"), /climbs/],
    ["that are absolute", name("/etc/passwd"), /absolute/],
    ["that are absolute elsewhere", name("C:\\a"), /absolute|backslash/],
    ["with a backslash", name("a\\..\\b"), /backslash/],
    ["with a NUL", name("a\0b"), /U\+0000/],
    ["with a line break", name("a\nb"), /U\+000A/],
    ["with an escape sequence", name("a\u001b[2Jb"), /U\+001B/],
    ["with a bidirectional override", name("a\u202eb"), /U\+202E/],
    ["with half a character", name("a\ud800b"), /U\+D800/],
    ["without a name", name(""), /empty|blank/],
    ["that are a directory", name("./"), /directory/],
    ["that begin with ~", name("~/a"), /~/],
    ["with a pattern", name("*"), /pattern/],
    ["with a name that is too long", name("x".repeat(256)), /255 bytes/],
    ["with a path that is too long", name("x/".repeat(2100)), /bytes/],
    ["that are one path twice", { a: "1", "./a": "2" }, /same path/],
    ["that are a file and a directory", { a: "1", "a/b": "2" }, /can't hold/],
    ["with a base64 that is none", { a: { base64: "%%%" } }, /base64/],
    ["of more than 2 MiB", { a: "x".repeat(2 * 1024 * 1024 + 1) }, /2097152/],
    [
      "of more than 2 MiB together",
      { a: "x".repeat(1024 * 1024), b: "x".repeat(1024 * 1024 + 1) },
      /2097152/,
    ],
    ["of another kind", { a: { text: "x" } }, /base64/],
  ];
  test.each(tries)("%s", async (_, files, says) => {
    await expectRefused(await fromFiles(files), says);
  });

  test("and 10,000 wrong ones are told in one short answer", async () => {
    const files = Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`../${n}`, ""]));
    await expectRefused(await fromFiles(files), /9950 more/);
  });
});

test("very many files are a context, and so are names that differ in their case alone", async () => {
  const files = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [`d${n % 100}/${n}`, ""]));
  const checked = await fromFiles(files(10_000), ["."], { dry_run: true });
  expect(checked.structured).toMatchObject({ state: "valid" });
  const { structured } = await fromFiles({
    ...files(500),
    readme: "small",
    README: "large",
    constructor: "c",
  });
  expect(structured).toMatchObject({ state: "ready" });
  const { text } = await server.call("build_get", { build_id: structured["build_id"] });
  expect(text).toMatch(/small/);
  expect(text).toMatch(/large/);
});
