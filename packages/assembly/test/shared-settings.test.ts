import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openSystem, readConfiguration, warnUnknownVariables } from "@formation-mcp/assembly";
import { readWorkerConfiguration } from "@formation-mcp/assembly/daemon";
import { readHttpConfiguration } from "@formation-mcp/assembly/http";
import { SETTINGS, startsWorker, unknownVariables } from "@formation-mcp/assembly/settings";
import { identify } from "@formation-mcp/os";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";

const dir = mkdtempSync(join(tmpdir(), "formation-shared-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function secret(name: string, mode = 0o600): string {
  const path = join(dir, name);
  writeFileSync(path, "0123456789abcdef0123456789abcdef");
  chmodSync(path, mode);
  return path;
}
const DATABASE = { FORMATION_DATABASE_URL: "postgres://formation_server@db.example:5432/formation" };

function problems(read: () => unknown): string[] {
  try {
    read();
    return [];
  } catch (error) {
    return (error as Error).message
      .split("\n")
      .slice(1)
      .map((line) => line.trim());
  }
}
const ofServer = (env: Record<string, string>) =>
  problems(() => readHttpConfiguration({}, { HOME: dir, ...env }));
const ofWorker = (env: Record<string, string>) =>
  problems(() => readWorkerConfiguration({}, { HOME: dir, ...env }));

test("without a word everything stays in the state directory, and a server starts its worker", () => {
  const configuration = readHttpConfiguration({}, { HOME: dir });
  expect(configuration.shared).toEqual({ database: null, nats: null });
  expect(configuration.masterKeyFile).toBeNull();
  expect(startsWorker(configuration)).toBe(true);
});

test("whoever shares a database or NATS starts no worker unless told to", () => {
  const env = { HOME: dir, ...DATABASE, FORMATION_MASTER_KEY_FILE: secret("master") };
  const starts = (settings: Record<string, string>) => startsWorker(readHttpConfiguration({}, settings));
  expect(starts(env)).toBe(false);
  expect(starts({ HOME: dir, FORMATION_NATS_URL: "nats://n:4222" })).toBe(false);
  expect(starts({ ...env, FORMATION_WORKER: "auto" })).toBe(true);
});

test("servers of one database share the key that seals what is in it; workers need none", () => {
  expect(ofServer(DATABASE)).toEqual([expect.stringMatching(/^FORMATION_MASTER_KEY_FILE: /)]);
  expect(ofWorker(DATABASE)).toEqual([]);
});

test("all that is wrong is told at once, and nothing of a secret", () => {
  const told = ofServer({
    FORMATION_DATABASE_URL: "mysql://x:hunter2@db/formation",
    FORMATION_NATS_URL: "nats://ok:4222,http://no",
    FORMATION_NATS_REPLICAS: "2",
    FORMATION_HTTP_PORT: "x",
    FORMATION_LOG_LEVEL: "loud",
  });
  const named = told.map((line) => line.split(":", 1)[0]);
  expect(named.sort()).toEqual([
    "FORMATION_DATABASE_URL",
    "FORMATION_HTTP_PORT",
    "FORMATION_LOG_LEVEL",
    "FORMATION_NATS_REPLICAS",
    "FORMATION_NATS_URL",
  ]);
  expect(told.join()).not.toContain("hunter2");
});

const EVERY = SETTINGS.map(({ name }) => name);

test("whatever is written wrongly, the line says what to write instead", () => {
  const told = EVERY.flatMap((name) =>
    ["nonsense !", "-1", "1.5", "NaN"].flatMap((text) => [
      ...ofServer({ [name]: text }),
      ...ofWorker({ [name]: text }),
    ]),
  );
  expect(told.length).toBeGreaterThan(100);
  for (const line of told) {
    expect(line).toMatch(
      /^[A-Z_]+: .*(\bwrite|\bset |expected one of|can't be (read|used)|ENOENT|go together|labels?\b)/,
    );
    expect(line).not.toMatch(/Invalid input|received/);
  }
  expect(ofServer({ FORMATION_TRUSTED_PROXIES: "a,b" })).toEqual([
    expect.stringMatching(/^FORMATION_TRUSTED_PROXIES: write networks as 10\.0\.0\.0\/8/),
  ]);
  expect(ofServer({ FORMATION_NATS_REPLICAS: "two" })).toEqual(["FORMATION_NATS_REPLICAS: write 1, 3 or 5"]);
  expect(ofWorker({ FORMATION_BIND_ADDRESS: "rack" })).toEqual([
    "FORMATION_BIND_ADDRESS: write an IP address, as 10.0.1.21",
  ]);
});

test("a database's URL is looked at whole: the word for TLS, and the files that it names", () => {
  const url = (query: string) => ({ FORMATION_DATABASE_URL: `postgres://a:hunter2@c/d?${query}` });
  const told = [
    ...ofWorker(url("sslmode=verify-ful")),
    ...ofWorker(url(`sslmode=verify-full&sslrootcert=${join(dir, "nowhere.pem")}`)),
  ];
  expect(told).toEqual([
    expect.stringMatching(/^FORMATION_DATABASE_URL: .*verify-full/),
    expect.stringMatching(/^FORMATION_DATABASE_URL: sslrootcert=.*nowhere\.pem: .*ENOENT/),
  ]);
  expect(told.join()).not.toContain("hunter2");
  expect(ofWorker(url("sslmode=verify-full"))).toEqual([]);
});

test("a misspelt setting is refused by every program, and the right one named; a stranger's variable is not", () => {
  const one = (env: Record<string, string>) => problems(() => readConfiguration({}, { HOME: dir, ...env }));
  for (const read of [ofServer, ofWorker, one]) {
    expect(read({ FORMATION_DATABASE_ULR: "postgres://a@b/c" })).toEqual([
      "FORMATION_DATABASE_ULR: there is no such setting; write FORMATION_DATABASE_URL",
    ]);
    expect(read({ FORMATION_VCPU: "4", FORMATION_LOG_LEVEL: "loud" })).toHaveLength(2);
    // As Kubernetes has them for a service that is called formation, and as our own processes and tests do.
    const others = [
      "SERVICE_HOST",
      "PORT_3010_TCP_ADDR",
      "STATE",
      "FAKE_BUILD",
      "TEST_SOURCE",
      "OS_TEST_SECRET",
    ];
    const passwords = ["SERVER_PASSWORD", "WORKER_PASSWORD"];
    expect(
      read(Object.fromEntries([...others, ...passwords].map((name) => [`FORMATION_${name}`, "x"]))),
    ).toEqual([]);
  }
  expect(unknownVariables(Object.fromEntries(EVERY.map((name) => [name, "x"])))).toEqual({
    misspelt: [],
    unknown: [],
  });
});

test("a stranger's variable that begins as ours do is told, for it may be a setting under a wrong name", () => {
  const said: unknown[] = [];
  const logger = { log: (level: string, _: string, fields?: object) => said.push({ level, ...fields }) };
  const warn = (env: Record<string, string>) => warnUnknownVariables(logger, readConfiguration({}, env));
  warn({ FORMATION_DB_URL: "postgres://secret", FORMATION_URL: "x", FORMATION_STATE: "x" });
  expect(said).toEqual([{ level: "warn", variables: ["FORMATION_DB_URL"] }]);
  warn({ HOME: dir });
  expect(said).toHaveLength(1);
});

test("settings that contradict each other are told", () => {
  const [nkey, open] = [secret("nkey"), secret("open", 0o604)];
  const nats = { FORMATION_NATS_URL: "tls://n:4222" };
  const cases: [Record<string, string>, RegExp][] = [
    [{ FORMATION_NATS_NKEY: nkey }, /FORMATION_NATS_URL/],
    [{ ...nats, FORMATION_NATS_NKEY: nkey, FORMATION_NATS_CREDS: nkey }, /exclude/],
    [{ ...nats, FORMATION_NATS_CERT: nkey }, /together/],
    [{ ...nats, FORMATION_NATS_NKEY: open }, /chmod 600/],
    [{ ...nats, FORMATION_NATS_NKEY: join(dir, "nowhere") }, /ENOENT/],
    [{ FORMATION_DATABASE_PASSWORD_FILE: nkey }, /FORMATION_DATABASE_URL/],
    [
      { FORMATION_DATABASE_URL: "postgres://a:b@c/d", FORMATION_DATABASE_PASSWORD_FILE: nkey },
      /password already/,
    ],
  ];
  for (const [env, what] of cases)
    expect(ofWorker(env), JSON.stringify(env)).toEqual([expect.stringMatching(what)]);
});

test("a worker says what it is called, what it has and where it is watched", () => {
  const configuration = readWorkerConfiguration(
    {},
    {
      HOME: dir,
      FORMATION_NODE_NAME: "rack-1",
      FORMATION_NODE_LABELS: "zone=a, disk=ssd",
      FORMATION_HEALTH_ADDRESS: "[::1]:9464",
      FORMATION_DRAIN_SECONDS: "5",
    },
  );
  expect(configuration.node).toEqual({ name: "rack-1", labels: { zone: "a", disk: "ssd" } });
  expect(configuration.health).toEqual({ host: "::1", port: 9464 });
  expect(configuration.drainMs).toBe(5000);
  expect(ofWorker({ FORMATION_NODE_LABELS: "zone" })).toEqual([expect.stringContaining("key=value")]);
  expect(ofWorker({ FORMATION_HEALTH_ADDRESS: "9464" })).toHaveLength(1);
  expect(ofWorker({ FORMATION_NODE_NAME: "rack 1" })).toHaveLength(1);
});

test("a node among many has an address of its own for its VMs", () => {
  expect(ofWorker({ ...DATABASE, FORMATION_BIND_ADDRESS: "0.0.0.0" })).toHaveLength(1);
  expect(ofWorker({ ...DATABASE, FORMATION_BIND_ADDRESS: "10.0.0.7" })).toEqual([]);
  expect(ofWorker({ FORMATION_BIND_ADDRESS: "0.0.0.0" })).toEqual([]);
});

test("the program of one person opens what is set for several, or says why not", async () => {
  const opened = async (env: Record<string, string>) =>
    openSystem({ configuration: readConfiguration({ stateDir: join(dir, "state") }, { HOME: dir, ...env }) });
  await expect(opened({ FORMATION_NATS_CREDS: "/nowhere" })).rejects.toMatchObject({
    code: "invalid",
    message: expect.stringContaining("FORMATION_NATS_URL"),
  });
  await expect(
    opened({ FORMATION_DATABASE_URL: "postgres://formation_server@127.0.0.1:9/formation" }),
  ).rejects.toMatchObject({ code: "unavailable" });
});

test("a worker that keeps its records elsewhere is told, for it would never hear of the work", async () => {
  const stateDir = join(dir, "held");
  mkdirSync(stateDir, { mode: 0o700 });
  const worker = { ...identify(process.pid), version: "1.0.0", state: "ready", keeps: "PostgreSQL and NATS" };
  writeFileSync(join(stateDir, "worker.json"), JSON.stringify(worker));
  const configuration = readConfiguration({ stateDir }, { HOME: dir });
  const program = { version: "1.0.0", entry: "/nowhere.mjs" };
  await expect(openSystem({ configuration, program })).rejects.toMatchObject({
    code: "conflict",
    message: expect.stringMatching(/PostgreSQL and NATS.*SQLite/),
  });
});

test("no text makes settings of labels that break their rules", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 80 }), (text) => {
      try {
        const { labels } = readWorkerConfiguration({}, { HOME: dir, FORMATION_NODE_LABELS: text }).node;
        for (const [key, value] of Object.entries(labels)) {
          expect(key).toMatch(/^[a-z0-9._/-]{1,63}$/);
          expect(value.length).toBeLessThan(64);
        }
      } catch (error) {
        expect(error).toMatchObject({ code: "invalid" });
      }
    }),
  );
});

test("what deploy/ sets are settings that there are", () => {
  const known = [...EVERY];
  // The roles' passwords are for psql.
  known.push("FORMATION_SERVER_PASSWORD", "FORMATION_WORKER_PASSWORD");
  // Streams at NATS.
  known.push("FORMATION_WORK", "FORMATION_LOGS");
  const deploy = join(import.meta.dirname, "../../../deploy");
  let seen = 0;
  for (const entry of readdirSync(deploy, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const text = readFileSync(join(entry.parentPath, entry.name), "utf8");
    for (const [name] of text.matchAll(/\bFORMATION_[A-Z_]+\b/g)) {
      expect(known, entry.name).toContain(name);
      seen++;
    }
  }
  expect(seen).toBeGreaterThan(20);
});
