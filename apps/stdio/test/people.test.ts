// @module-tag bundles

import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Person, startWorld, type World } from "./world.ts";

let world: World;
let admin: Person;
const CONFIG = ".config/formation-mcp";
const ADMIN_SCOPES = /pack:read pack:write vm:read vm:write operation:read operation:write admin/;

beforeAll(async () => {
  world = await startWorld({ FORMATION_OPEN_REGISTRATION: "yes" });
  admin = world.person();
});
afterAll(() => world?.close());

describe("formation-mcp keygen", () => {
  it("says the key's id alone, and writes what nobody else can read", async () => {
    const { code, stdout, stderr } = await admin.run(["keygen"]);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^key:[\w-]{43}\n$/);
    const file = join(admin.home, CONFIG, "key.json");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const { private_key } = JSON.parse(readFileSync(file, "utf8")) as { private_key: string };
    expect(stdout + stderr).not.toContain(private_key);
  });

  it("never overwrites a key", async () => {
    const before = readFileSync(join(admin.home, CONFIG, "key.json"), "utf8");
    expect(await admin.run(["keygen"])).toMatchObject({ code: 1, stdout: "" });
    expect(readFileSync(join(admin.home, CONFIG, "key.json"), "utf8")).toBe(before);
  });

  it("seals a key for Ethereum with a passphrase that is on no command line", async () => {
    const person = world.person();
    const env = { FORMATION_KEY_PASSPHRASE: "correct horse" };
    const made = await person.run(["keygen", "--kind", "secp256k1", "--passphrase", "--out", "sealed.json"], {
      env,
    });
    expect(made.stdout).toMatch(/^0x[0-9a-fA-F]{40}\n$/);
    expect(readFileSync(join(person.home, "sealed.json"), "utf8")).not.toContain("private_key");
    const key = ["--key", "sealed.json", "--server", world.url];
    const wrong = await person.run(["login", ...key], { env: { FORMATION_KEY_PASSPHRASE: "wrong" } });
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining("passphrase") });
    const unasked = await person.run(["login", ...key]);
    expect(unasked).toMatchObject({ code: 1, stderr: expect.stringContaining("FORMATION_KEY_PASSPHRASE") });
  });

  it("refuses a kind that it does not know", async () => {
    expect(await world.person().run(["keygen", "--kind", "rsa"])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("ed25519, secp256k1"),
    });
  });
});

describe("formation-mcp login", () => {
  it("makes the first key of a fresh server its admin, once", async () => {
    const guess = ["login", "--server", world.url, "--bootstrap", `${world.bootstrap.slice(0, -4)}AAAA`];
    expect(await admin.run(guess)).toMatchObject({ code: 1 });
    const done = await admin.run(["login", "--server", world.url, "--bootstrap", world.bootstrap]);
    expect(done, done.stderr).toMatchObject({
      code: 0,
      stdout: "",
      stderr: expect.stringMatching(ADMIN_SCOPES),
    });
    const second = world.person();
    await second.run(["keygen"]);
    const late = await second.run(["login", "--server", world.url, "--bootstrap", world.bootstrap]);
    expect(late.code).toBe(1);
  });

  it("remembers the server and the session, where nobody else can read them", async () => {
    const file = join(admin.home, CONFIG, "credentials.json");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(await admin.run(["whoami"])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(world.url),
    });
  });

  it("says what to do where there is no key, no server, nobody who answers, or no such code", async () => {
    const person = world.person();
    expect((await person.run(["login", "--server", world.url])).stderr).toContain("formation-mcp keygen");
    await person.run(["keygen"]);
    expect((await person.run(["login"])).stderr).toContain("--server URL");
    const nowhere = await person.run(["login", "--server", "http://127.0.0.1:9"]);
    expect(nowhere).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("Nothing answers at http://127.0.0.1:9"),
    });
    expect((await person.run(["login", "ABCD-EFGH", "--server", world.url])).stderr).toContain(
      "no such code",
    );
    expect((await person.run(["login", "--server", "http://vm.example.org"])).stderr).toContain("plain HTTP");
  });
});

describe("formation-mcp whoami", () => {
  it("says whom the server sees", async () => {
    const { stdout } = await admin.run(["whoami", "--json"]);
    const owner = (await admin.run(["whoami"])).stdout.match(/owner +(\S+)/)?.[1];
    expect(JSON.parse(stdout)).toMatchObject({ server: world.url, owner, bounds: null });
    expect(owner).toMatch(/^key:/);
  });
});

describe("formation-mcp token", () => {
  const make = (...more: string[]) => admin.run(["token", "create", "--name", "ci", ...more]);

  it("prints a new one alone on standard output, never again, and it does less", async () => {
    const { code, stdout, stderr } = await make(
      "--scopes",
      "vm:read",
      "--expires",
      "1d",
      "--label",
      "team=web",
    );
    expect(code, stderr).toBe(0);
    const token = stdout.trim();
    expect(token).toMatch(/^fmt_\S+$/);
    expect(stderr).not.toContain(token);
    const list = await admin.run(["token", "list"]);
    expect(list.stdout).toMatch(/^tok_\S+ {2}ci {2}vm:read {2}until \S+ {2}never used$/m);
    expect(list.stdout).not.toContain(token);
    const seen = await admin.run(["whoami", "--json"], { env: { FORMATION_TOKEN: token } });
    expect(JSON.parse(seen.stdout)).toMatchObject({
      scopes: ["vm:read"],
      bounds: { metadata: { team: "web" } },
    });
  });

  it("ends one", async () => {
    const { stdout, stderr } = await make("--scopes", "vm:read");
    const [id = ""] = /tok_\S+/.exec(stderr) ?? [];
    expect(await admin.run(["token", "revoke", id])).toMatchObject({ code: 0 });
    const after = await admin.run(["whoami"], { env: { FORMATION_TOKEN: stdout.trim() } });
    expect(after).toMatchObject({ code: 1, stderr: expect.stringContaining("not valid") });
    expect(await admin.run(["token", "revoke", id])).toMatchObject({ code: 1 });
  });

  it("is not made with a token", async () => {
    const { stdout } = await make();
    const env = { FORMATION_TOKEN: stdout.trim() };
    expect(await admin.run(["token", "create", "--name", "more"], { env })).toMatchObject({
      code: 1,
      stdout: "",
    });
  });

  it.each([
    [["token", "create"], "--name is missing"],
    [["token", "create", "--name", "x", "--scopes", "vm:fly"], "no scope"],
    [["token", "create", "--name", "x", "--expires", "soon"], "30d"],
    [["token", "create", "--name", "x", "--label", "team"], "KEY=VALUE"],
    [["token", "revoke"], "token list"],
  ])("%j is refused with what to write instead", async (args, words) => {
    expect(await admin.run(args)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringContaining(words),
    });
  });
});

describe("formation-mcp logout", () => {
  it("ends the session there and here", async () => {
    const person = world.person();
    await person.run(["keygen"]);
    expect(await person.run(["login", "--server", world.url])).toMatchObject({ code: 0 });
    const file = join(person.home, CONFIG, "credentials.json");
    const { servers } = JSON.parse(readFileSync(file, "utf8")) as {
      servers: Record<string, { refresh_token: string }>;
    };
    const { refresh_token } = servers[world.url] ?? {};
    expect(await person.run(["logout"])).toMatchObject({ code: 0 });
    expect(existsSync(file) && readFileSync(file, "utf8").includes("fmr_")).toBe(false);
    const again = await fetch(`${world.url}/api/auth/refresh`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ refresh_token }),
    });
    expect(again.status).toBe(401);
    expect(await person.run(["whoami"])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("No server"),
    });
  });
});

describe("every command", () => {
  it.each(["doctor", "worker", "purge", "keygen", "login", "logout", "whoami", "token"])(
    "%s tells its use, with an example",
    async (command) => {
      const { code, stdout } = await admin.run([command, "--help"]);
      expect(code).toBe(0);
      expect(stdout).toMatch(new RegExp(`^formation-mcp ${command}: .*\\n\\nUsage\\n(.*\\n)+Examples?\\n  `));
    },
  );

  it("refuses an option that it does not have as a mistake of use", async () => {
    const { code, stderr } = await admin.run(["whoami", "--nonsense"]);
    expect(code).toBe(2);
    expect(stderr).toContain("Unknown option '--nonsense'");
  });
});

describe("a browser's login code", () => {
  it("is shown with who asks and where it leads, signed with --yes, and the browser's page knows", async () => {
    const person = world.person();
    await person.run(["keygen"]);
    await person.run(["login", "--server", world.url]);
    const browser = await signInPage();
    const silent = await person.run(["login", browser.code]);
    expect(silent).toMatchObject({ code: 1, stderr: expect.stringContaining("--yes") });
    expect(await browser.state()).toBe("waiting");
    const { code, stdout, stderr } = await person.run(["login", browser.code.toLowerCase(), "--yes"]);
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: "" });
    expect(stderr).toContain("A client of tests");
    expect(stderr).toMatch(/leads to +the browser's computer \(127\.0\.0\.1:4711\)/);
    expect(stderr).toContain("vm:read");
    expect(await browser.state()).toBe("signed");
    expect(await person.run(["login", browser.code, "--yes"])).toMatchObject({ code: 1 });
  });

  it("is not signed by a key without an account", async () => {
    const stranger = world.person();
    const closed = await startWorld();
    try {
      await stranger.run(["keygen"]);
      const browser = await signInPage(closed.url);
      const refused = await stranger.run(["login", browser.code, "--yes", "--server", closed.url]);
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("account") });
      expect(await browser.state()).toBe("waiting");
    } finally {
      await closed.close();
    }
  });

  /** A page that waits for a sign-in, as an OAuth client's browser gets it. */
  async function signInPage(url = world.url) {
    const redirect = "http://127.0.0.1:4711/back";
    const registered = await fetch(`${url}/oauth/register`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        client_name: "A client of tests",
        redirect_uris: [redirect],
        token_endpoint_auth_method: "none",
      }),
    });
    const { client_id } = (await registered.json()) as { client_id: string };
    const asked = new URLSearchParams({
      client_id,
      redirect_uri: redirect,
      response_type: "code",
      scope: "vm:read",
      resource: `${url}/mcp`,
      code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
      code_challenge_method: "S256",
      state: "x",
    });
    const started = await fetch(`${url}/oauth/authorize?${asked}`, { redirect: "manual" });
    const cookie = started.headers
      .getSetCookie()
      .map((line) => line.split(";")[0])
      .join("; ");
    const page = new URL(started.headers.get("location") ?? "", url);
    const html = await (await fetch(page, { headers: { cookie } })).text();
    const [code = ""] = /\b[0-9A-Z]{4}-[0-9A-Z]{4}\b/.exec(html) ?? [];
    return {
      code,
      async state() {
        const said = await fetch(`${page.href}/state`, { headers: { cookie } });
        return ((await said.json()) as { state: string }).state;
      },
    };
  }
});
