import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readHttpConfiguration } from "@formation-mcp/assembly/http";
import { SETTINGS } from "@formation-mcp/assembly/settings";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";

const dir = mkdtempSync(join(tmpdir(), "formation-settings-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const HOME = { HOME: dir };
let files = 0;
function file(content: unknown): string {
  const path = join(dir, `${files++}.json`);
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

/** What is wrong with the settings, one line each. */
function problems(environment: Record<string, string>, settings?: string): string[] {
  try {
    readHttpConfiguration(settings === undefined ? {} : { file: settings }, { ...HOME, ...environment });
    return [];
  } catch (error) {
    return (error as Error).message
      .split("\n")
      .slice(1)
      .map((line) => line.trim());
  }
}

test("with nothing said it serves this machine alone, and nobody registers by himself", () => {
  const configuration = readHttpConfiguration({}, HOME);
  expect(configuration).toMatchObject({
    host: "127.0.0.1",
    port: 3010,
    publicUrl: null,
    tls: null,
    trustedProxies: [],
    corsOrigins: [],
    openRegistration: false,
    readOnly: false,
    allowTools: [],
    denyTools: [],
    shared: { database: null, nats: null },
  });
  for (const limit of Object.values(configuration.quota)) expect(limit).toBeGreaterThan(0);
  for (const rate of Object.values(configuration.rates)) expect(rate).toBeGreaterThan(0);
});

test("the environment is stronger than the file, and the file than what is usual", () => {
  const path = file({
    http: { port: 4000, host: "127.0.0.2" },
    FORMATION_READ_ONLY: true,
    deny_tools: ["vm_delete", "vm_control"],
    quota: { vcpus: "none", operations: { per: { minute: 5 } } },
    rate_address: 7,
    log_level: "warn",
    allow_dir: ["/a", "/b"],
    cors_origins: "https://a.example https://b.example",
  });
  const configuration = readHttpConfiguration({ file: path }, { ...HOME, FORMATION_HTTP_PORT: "5000" });
  expect(configuration).toMatchObject({
    port: 5000,
    host: "127.0.0.2",
    readOnly: true,
    denyTools: ["vm_delete", "vm_control"],
    logLevel: "warn",
    allowDirs: ["/a", "/b"],
    corsOrigins: ["https://a.example", "https://b.example"],
  });
  expect(configuration.quota).toMatchObject({ vcpus: null, operations_per_minute: 5, instances: 10 });
  expect(configuration.rates.address).toBe(7);
  // A worker is started with the file's settings too.
  expect(configuration.environment).toMatchObject({ FORMATION_LOG_LEVEL: "warn" });
});

test("every problem is told at once, of the file and of the environment", () => {
  const path = file({
    http: { prot: 1 },
    read_only: "perhaps",
    cache_gb: 0,
    deny_tools: ["vm_explode"],
    quota: [1],
  });
  const told = problems(
    { FORMATION_HTTP_PORT: "70000", FORMATION_DRIVERS: "none", FORMATION_CORS_ORIGINS: "*" },
    path,
  );
  for (const name of [
    "http.prot",
    "READ_ONLY",
    "CACHE_GB",
    "DENY_TOOLS",
    "quota",
    "HTTP_PORT",
    "DRIVERS",
    "CORS_ORIGINS",
  ])
    expect(told.join("\n"), name).toContain(name);
  expect(told).toHaveLength(8);
});

const FILES: readonly [what: string, content: unknown][] = [
  ["no JSON", "{"],
  ["a list", []],
  ["a text", '"x"'],
  ["a setting twice", { http: { port: 1 }, http_port: 2 }],
  ["an object for a list", { deny_tools: [{ a: 1 }] }],
  ["a prototype", '{"__proto__": {"port": 1}}'],
];
test.each(FILES)("a file with %s is a problem that names the file", (_, content) => {
  const path = file(content);
  expect(problems({}, path).join("\n")).toContain(path);
});

test("a file that is not there is a problem, not an absent setting", () => {
  expect(problems({}, join(dir, "nowhere.json"))).toHaveLength(1);
});

const PUBLIC = { FORMATION_HTTP_HOST: "0.0.0.0", FORMATION_PUBLIC_URL: "https://vm.example.org" };
const REFUSED: readonly [what: string, settings: Record<string, string>, about: string][] = [
  ["plain HTTP beyond this machine", PUBLIC, "FORMATION_HTTP_HOST"],
  ["plain HTTP on IPv6", { ...PUBLIC, FORMATION_HTTP_HOST: "::" }, "FORMATION_HTTP_HOST"],
  [
    "an unknown name beyond this machine",
    { FORMATION_HTTP_HOST: "0.0.0.0", FORMATION_TRUSTED_PROXIES: "10.0.0.0/8" },
    "FORMATION_PUBLIC_URL",
  ],
  ["a plain public URL", { FORMATION_PUBLIC_URL: "http://vm.example.org" }, "FORMATION_PUBLIC_URL"],
  ["a public URL with a path", { FORMATION_PUBLIC_URL: "https://vm.example.org/" }, "FORMATION_PUBLIC_URL"],
  ["a public URL in capitals", { FORMATION_PUBLIC_URL: "https://VM.example.org" }, "FORMATION_PUBLIC_URL"],
  ["a public URL with a user", { FORMATION_PUBLIC_URL: "https://a@vm.example.org" }, "FORMATION_PUBLIC_URL"],
  [
    "a public URL that is no web address",
    { FORMATION_PUBLIC_URL: "javascript:alert(1)" },
    "FORMATION_PUBLIC_URL",
  ],
  ["a certificate without its key", { FORMATION_TLS_CERT: "/a" }, "FORMATION_TLS_CERT"],
  [
    "a certificate that is none",
    { FORMATION_TLS_CERT: "/dev/null", FORMATION_TLS_KEY: "/dev/null" },
    "FORMATION_TLS_CERT",
  ],
  ["every origin", { FORMATION_CORS_ORIGINS: "*" }, "FORMATION_CORS_ORIGINS"],
  ["the null origin", { FORMATION_CORS_ORIGINS: "null" }, "FORMATION_CORS_ORIGINS"],
  ["a proxy that is no network", { FORMATION_TRUSTED_PROXIES: "10.0.0.1" }, "FORMATION_TRUSTED_PROXIES"],
  ["a host with a port", { FORMATION_ALLOWED_HOSTS: "vm:80" }, "FORMATION_ALLOWED_HOSTS"],
  ["a name to listen on", { FORMATION_HTTP_HOST: "vm.example.org" }, "FORMATION_HTTP_HOST"],
  ["half a vCPU", { FORMATION_QUOTA_VCPUS: "0.5" }, "FORMATION_QUOTA_VCPUS"],
];
test.each(REFUSED)("refused: %s", (_, settings, about) => {
  const told = problems(settings);
  expect(
    told.some((line) => line.startsWith(about)),
    told.join("\n"),
  ).toBe(true);
});

test("plain HTTP beyond this machine is served behind a proxy that is trusted, or if somebody says so", () => {
  expect(problems({ ...PUBLIC, FORMATION_TRUSTED_PROXIES: "10.0.0.0/8, fd00::/8" })).toEqual([]);
  expect(problems({ ...PUBLIC, FORMATION_PLAIN_HTTP: "yes" })).toEqual([]);
  expect(problems({ FORMATION_PUBLIC_URL: "https://vm.example.org" })).toEqual([]); // a proxy on this machine
});

test("a certificate that fits its key is taken", () => {
  const [cert, key] = [join(dir, "cert.pem"), join(dir, "key.pem")];
  execFileSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:P-256",
      "-nodes",
      "-subj",
      "/CN=vm.example.org",
      "-days",
      "2",
      "-keyout",
      key,
      "-out",
      cert,
    ],
    { stdio: "ignore" },
  );
  expect(problems({ ...PUBLIC, FORMATION_TLS_CERT: cert, FORMATION_TLS_KEY: key })).toEqual([]);
});

test("each setting is named once, and no two programs mean different things by a name", () => {
  const names = SETTINGS.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});

test("no file and no environment makes it throw anything but the list of problems", () => {
  const names = SETTINGS.map(({ name }) => name);
  fc.assert(
    fc.property(
      fc.dictionary(
        fc.constantFrom(...names),
        fc.oneof(fc.string(), fc.constantFrom("0", "-1", "yes", "*", "1e999")),
      ),
      fc.option(fc.json(), { nil: undefined }),
      (environment, settings) => {
        const told = problems(environment, settings === undefined ? undefined : file(settings));
        for (const line of told) expect(line).not.toBe("");
      },
    ),
    { numRuns: 200 },
  );
});
