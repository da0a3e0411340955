// @module-tag bundles

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { TOOLS } from "@formation-mcp/tools";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, type Host, type Person, startWorld, type World } from "./world.ts";

let world: World;
let person: Person;
let project: string;
const WRITES = "pack:read pack:write vm:read vm:write operation:read operation:write";

beforeAll(async () => {
  world = await startWorld({ FORMATION_OPEN_REGISTRATION: "yes" });
  person = world.person();
  await person.run(["keygen"]);
  await person.run(["login", "--server", world.url, "--bootstrap", world.bootstrap]);
  project = join(person.home, "project");
  mkdirSync(project);
  writeFileSync(join(project, "index.html"), "hello");
  writeFileSync(join(project, ".env"), "SECRET=1");
});
afterAll(() => world?.close());

/** Uses a host and ends it. */
async function using<T>(starting: Promise<Host>, use: (host: Host) => Promise<T>): Promise<T> {
  const host = await starting;
  try {
    return await use(host);
  } finally {
    await host.close();
  }
}

const remote = (more: { args?: string[]; env?: Record<string, string>; node?: string[] } = {}) =>
  person.host({ url: world.url, ...more });

const workload = (name: string, more: object = {}) => ({
  formfile: { from: "busybox", name, entrypoint: ["sleep", "600"], ...more },
});

/** The tools that an account without `admin` may use. */
const OFFERED = TOOLS.filter(({ scope }) => scope !== "admin").map(({ name }) => name);

describe("with FORMATION_URL the tools", () => {
  it("are those that the key may use, no more than the command line lets through", async () => {
    expect(await using(remote(), (host) => host.tools())).toEqual(OFFERED);
    const reading = TOOLS.filter(({ scope }) => scope.endsWith(":read")).map(({ name }) => name);
    expect(await using(remote({ args: ["--read-only"] }), (host) => host.tools())).toEqual(reading);
    await using(remote({ args: ["--scopes", "vm:read"] }), async (host) => {
      expect(await host.tools()).toEqual(["vm_list", "vm_status", "vm_logs"]);
      const refused = await host.call("pack_build", workload("no"));
      expect(refused).toMatchObject({ isError: true, text: expect.stringContaining("pack:write") });
    });
  });

  it("are those that a token may use, where one is given", async () => {
    const { stdout } = await person.run([
      "token",
      "create",
      "--name",
      "t",
      "--scopes",
      "vm:read operation:read",
    ]);
    const env = { FORMATION_TOKEN: stdout.trim() };
    const tools = await using(remote({ env }), (host) => host.tools());
    expect(tools).toEqual(["vm_list", "vm_status", "vm_logs", "operation_get", "operation_list"]);
  });

  it("answer as they do on this machine: results, refusals and failures", async () => {
    const calls: [string, Record<string, unknown>][] = [
      ["vm_list", {}],
      ["build_list", { limit: 0 }],
      ["vm_list", { nonsense: 1 }],
      ["vm_status", { instance: "nobody" }],
      ["operation_get", { id: "op_nonsense" }],
      ["pack_build", { ...workload("dry"), dry_run: true }],
      ["pack_build", workload("bad", { expose: [0], nonsense: true })],
      ["pack_build", { formfile: "from: [", context_dir: project }],
      ["pack_build", { ...workload("secrets", { include: ["."] }), context_dir: project, wait_seconds: 45 }],
      ["pack_build", { ...workload("missing", { include: ["gone.txt"] }), context_dir: project }],
      ["pack_build", { ...workload("unused"), context_dir: project, dry_run: true }],
      ["pack_build", { ...workload("relative", { include: ["."] }), context_dir: "project" }],
      ["pack_build", { ...workload("both", { include: ["."] }), context_dir: project, context_files: {} }],
      ["pack_build", { ...workload("elsewhere", { include: ["."] }), context_dir: "/etc" }],
      ["pack_build", { ...workload("failing", { run: ["exit 3"] }), wait_seconds: 45 }],
      ["vm_delete", { instance: "nobody", confirm: "nobody" }],
    ];
    const answers = (starting: Promise<Host>) =>
      using(starting, async (host) => {
        const list: Answer[] = [];
        for (const [tool, input] of calls) list.push(await host.call(tool, input));
        return list.map(({ isError, structured, text }) => plain({ isError, structured, text }));
      });
    const args = ["--allow-dir", project];
    const [here, there] = [await answers(person.host({ args })), await answers(remote({ args }))];
    for (const [index, call] of calls.entries())
      expect(there[index], JSON.stringify(call)).toEqual(here[index]);
  });

  it("show no more than the key's own, though the key is an admin's", async () => {
    const other = world.person();
    await other.run(["keygen"]);
    const made = await using(other.host({ url: world.url }), (host) =>
      host.call("pack_build", workload("theirs")),
    );
    expect(made.isError, made.text).toBe(false);
    const { text } = await using(remote(), (host) => host.call("build_list", { name: "theirs" }));
    expect(JSON.parse(text)).toEqual({ builds: [], cursor: null });
  });

  it("build, ship and end a VM, and tell how it goes", async () => {
    await using(remote(), async (host) => {
      const built = await host.call("pack_build", { ...workload("story"), wait_seconds: 45 });
      expect(built.structured, built.text).toMatchObject({ state: "ready", done: true });
      const shipped = await host.call("pack_ship", {
        build_id: built.structured["build_id"],
        wait_seconds: 45,
      });
      expect(shipped.structured, shipped.text).toMatchObject({ state: "live", done: true });
      // Which steps are seen depends on how long each takes.
      expect(shipped.progress.join("\n")).toMatch(/^(disk|boot|entrypoint|listen)/m);
      const ended = await host.call("vm_delete", { instance: "story", confirm: "story", wait_seconds: 45 });
      expect(ended.structured, ended.text).toMatchObject({ state: "deleted", done: true });
    });
  });
});

describe("a directory of this machine", () => {
  it("is read here, below what is allowed here", async () => {
    const input = (dir: string) => ({
      ...workload("dirs", { include: ["."] }),
      context_dir: dir,
      dry_run: true,
    });
    await using(remote({ args: ["--allow-dir", project] }), async (host) => {
      expect((await host.call("pack_build", input(project))).isError).toBe(false);
      const outside = await host.call("pack_build", input(person.home));
      expect(outside).toMatchObject({ isError: true, text: expect.stringContaining("--allow-dir") });
    });
  });

  it("never takes keys and sessions along", async () => {
    await using(remote({ args: ["--allow-dir", person.home] }), async (host) => {
      const named = await host.call("pack_build", {
        ...workload("keys", { include: [".config/formation-mcp/key.json"] }),
        context_dir: person.home,
      });
      expect(named).toMatchObject({ isError: true, text: expect.stringContaining("program's own") });
      const all = await host.call("pack_build", {
        ...workload("keys", { include: [".config", "project/index.html"] }),
        context_dir: person.home,
        dry_run: true,
      });
      expect(all.text).toContain(".config/formation-mcp");
      expect(all.structured["warnings"]).toEqual([expect.stringContaining("Left out")]);
    });
  });

  it("is the same context when a call is made again under its key", async () => {
    const call = {
      ...workload("again", { include: ["."] }),
      context_dir: project,
      idempotency_key: "again",
      wait_seconds: 0,
    };
    await using(remote({ args: ["--allow-dir", project] }), async (host) => {
      const first = await host.call("pack_build", call);
      const second = await host.call("pack_build", call);
      expect(first.isError, first.text).toBe(false);
      expect(second.structured["build_id"], second.text).toBe(first.structured["build_id"]);
    });
  });
});

describe("a laptop without VMs", () => {
  // As on Node 20, which has no node:sqlite, and with no engine on the PATH.
  const bare = { node: ["--no-experimental-sqlite"], env: { PATH: "/nowhere" } };

  it("needs neither node:sqlite nor an engine for a server's tools", async () => {
    await using(person.host(bare), async (host) => {
      expect((await host.call("pack_build", workload("here"))).text).toMatch(/no node:sqlite/);
    });
    await using(remote(bare), async (host) => {
      expect(await host.call("vm_list", {})).toMatchObject({ isError: false });
      const call = { ...workload("bare", { include: ["."] }), context_dir: project, dry_run: true };
      expect((await host.call("pack_build", call)).text).not.toMatch(/sqlite/);
    });
  });

  it("starts nothing here and keeps nothing here", async () => {
    const guest = world.person();
    await guest.run(["keygen"]);
    await using(guest.host({ url: world.url }), (host) => host.call("pack_build", workload("far")));
    rmSync(join(guest.home, ".config"), { recursive: true });
    expect(() => rmSync(join(guest.home, "state"), { recursive: true })).toThrow(/ENOENT/);
  });
});

describe("where there is no way to the server", () => {
  it("every call says so, with its URL", async () => {
    const url = "http://127.0.0.1:1";
    await using(person.host({ url, env: { FORMATION_TOKEN: "fmt_a_b" } }), async (host) => {
      expect(await host.tools()).toEqual(OFFERED);
      const { isError, text } = await host.call("vm_list", {});
      expect(isError).toBe(true);
      expect(text).toContain(url);
      expect(host.stderr()).toContain(url);
    });
  });

  it.each([
    ["the URL is none", { FORMATION_URL: "vm.example.org" }, "Write it as https://"],
    ["the key is not there", { FORMATION_KEY_FILE: "/nowhere/key.json" }, "keygen"],
  ])("the program does not start: %s", async (_, env, words) => {
    const ran = await person.run([], { env: { FORMATION_URL: world.url, ...env } });
    expect(ran).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining(words) });
  });

  it("a sealed key needs its passphrase, or the session that login left", async () => {
    const careful = world.person();
    const env = { FORMATION_KEY_PASSPHRASE: "correct horse" };
    await careful.run(["keygen", "--passphrase"], { env });
    const unasked = await careful.run([], { env: { FORMATION_URL: world.url } });
    expect(unasked).toMatchObject({ code: 1, stderr: expect.stringContaining("FORMATION_KEY_PASSPHRASE") });
    const list = (host: Host) => host.call("vm_list", {});
    expect(await using(careful.host({ url: world.url, env }), list)).toMatchObject({ isError: false });
    expect(await careful.run(["login", "--server", world.url], { env })).toMatchObject({ code: 0 });
    expect(await using(careful.host({ url: world.url }), list)).toMatchObject({ isError: false });
  });
});

it("a session that programs share is renewed without ending it", async () => {
  const sharing = world.person();
  const env = { FORMATION_KEY_PASSPHRASE: "correct horse" };
  await sharing.run(["keygen", "--passphrase"], { env });
  const signedIn = await sharing.run(["login", "--server", world.url], { env });
  expect(signedIn.stderr).toContain(WRITES);
  const file = join(sharing.home, ".config/formation-mcp/credentials.json");
  const stored = JSON.parse(readFileSync(file, "utf8")) as {
    servers: Record<string, { expires_at: number }>;
  };
  const session = stored.servers[world.url];
  if (session) session.expires_at = Date.now();
  writeFileSync(file, JSON.stringify(stored), { mode: 0o600 });
  const some = await Promise.all(Array.from({ length: 4 }, () => sharing.run(["whoami"])));
  expect(some.map(({ code, stderr }) => [code, stderr])).toEqual(Array(4).fill([0, ""]));
});

/**
 * An answer without what differs from call to call: ids, times, fences, and the image with its creation time.
 */
function plain(answer: object): unknown {
  const text = JSON.stringify(answer)
    .replace(/\b(op|bld|dep|vm)_[0-9a-z]{36}/g, "$1_…")
    .replace(/(\bdigest\\*":\\*")sha256:[0-9a-f]{64}/g, "$1…")
    .replace(/untrusted-[0-9a-f]+/g, "untrusted-…")
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "…");
  return JSON.parse(text);
}
