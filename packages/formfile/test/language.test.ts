import { FORMFILE_LIMITS, parseFormfile } from "@formation-mcp/formfile";
import { describe, expect, it } from "vitest";
import { accepted, flaw, onlyIssue, refused } from "./support.ts";

describe("the language", () => {
  it("fills in every default", () => {
    expect(accepted({ from: "debian:12" })).toEqual({
      from: "debian:12",
      name: "debian",
      run: [],
      include: [],
      env: {},
      expose: [],
      entrypoint: null,
      resources: { vcpus: 1, memory_mb: 512, disk_gb: 5 },
      network: { join_formnet: false, external_networks: [] },
      metadata: {},
    });
  });

  it("takes every key", () => {
    const whole = {
      from: "ghcr.io/acme/api:1.4",
      name: "api",
      run: ["apt-get update", "make\nmake install"],
      include: ["src", "pages/[id].tsx"],
      env: { PORT: "8080", EMPTY: "", _x1: "a\tb\nc" },
      expose: [8080, 1, 65535],
      entrypoint: ["/usr/bin/api", ""],
      resources: { vcpus: 64, memory_mb: 262144, disk_gb: 2048 },
      network: { join_formnet: false, external_networks: [] },
      metadata: { team: "web", empty: "" },
    };
    expect(accepted(whole)).toEqual(whole);
  });

  it("fills in what a partial mapping leaves out", () => {
    expect(accepted({ from: "x", resources: { vcpus: 2 } }).resources).toEqual({
      vcpus: 2,
      memory_mb: 512,
      disk_gb: 5,
    });
  });

  it("warns of networks, which have no effect yet", () => {
    const result = parseFormfile({ from: "x", network: { join_formnet: true, external_networks: ["lan"] } });
    expect(result.ok && result.warnings).toEqual([
      expect.stringMatching(/^network\.join_formnet is accepted but has no effect yet: formnet is not built/),
      expect.stringMatching(/^network\.external_networks is accepted but has no effect yet/),
    ]);
    const quiet = parseFormfile({ from: "x", network: { join_formnet: false, external_networks: [] } });
    expect(quiet.ok && quiet.warnings).toEqual([]);
  });

  it("reports every problem of a document at once", () => {
    const issues = refused({
      form: "x",
      run: ["", 1],
      resources: { vcpus: 0, memory_mb: "512M" },
      expose: [0],
    });
    expect(issues.map(({ path }) => path)).toEqual([
      "from",
      "form",
      "run[0]",
      "run[1]",
      "resources.vcpus",
      "resources.memory_mb",
      "expose[0]",
    ]);
  });
});

describe("from", () => {
  const sha = "0123456789abcdef".repeat(4);
  it.each([
    "busybox",
    "scratch",
    "debian:12",
    "library/debian:Bookworm-slim_1.0",
    "localhost:5000",
    "localhost:5000/a/b:c",
    "registry.example.com/a--b/c__d/e.f",
    "[::1]:5000/x",
    `ghcr.io/x/y@sha256:${sha}`,
    `ghcr.io/x/y:1@sha512:${sha}${sha}`,
  ])("takes %s", (from) => {
    const entrypoint = ["/x"];
    expect(accepted({ from, entrypoint }).from).toBe(from);
  });

  it.each([
    ["Debian:12", '"debian:12"'],
    ["https://ghcr.io/Acme/App:V1", '"ghcr.io/acme/app:V1"'],
    [" debian:12", '"debian:12"'],
    ["", "such as"],
    ["a b", "such as"],
    ["-x", "such as"],
    ["a/../b", "such as"],
    ["a;reboot", "such as"],
    ["a:", "such as"],
    ["a//b", "such as"],
    ["/a", "such as"],
    ["debian:12\n", '"debian:12"'],
    ["a\u0000", "such as"],
    ["a@sha256:abc", "64"],
    [`a@sha256:${sha.toUpperCase()}`, "lower-case"],
    [`a@md5:${sha}`, "sha256"],
    [sha, `name@sha256:${sha}`],
    ["scratch:latest", '"scratch"'],
    ["a".repeat(256), "255"],
  ])("refuses %j and says what to write", (from, remedy) => {
    const issue = onlyIssue({ from });
    expect(issue.path).toBe("from");
    expect(issue.remedy).toContain(remedy);
  });

  it("is required", () => {
    expect(onlyIssue({})).toMatchObject({ path: "from", problem: "from is missing." });
  });

  it("scratch has no shell: no run, and entrypoint as a list", () => {
    expect(accepted({ from: "scratch", entrypoint: ["/app"] }).name).toBe("scratch");
    expect(onlyIssue({ from: "scratch" }).path).toBe("entrypoint");
    expect(onlyIssue({ from: "scratch", entrypoint: "/app" }).path).toBe("entrypoint");
    expect(onlyIssue({ from: "scratch", entrypoint: null }).path).toBe("entrypoint");
    expect(onlyIssue({ from: "scratch", run: ["make"], entrypoint: ["/app"] }).path).toBe("run");
  });
});

describe("name", () => {
  it.each([
    ["ghcr.io/acme/My_App.v2".toLowerCase(), "my-app-v2"],
    [`localhost:5000/a/b:1@sha256:${"0".repeat(64)}`, "b"],
    ["localhost:5000", "localhost"],
    [`a${"-b".repeat(60)}`, `a${"-b".repeat(31)}`],
  ])("of %s is by default %s", (from, name) => {
    expect(accepted({ from }).name).toBe(name);
  });

  it.each([
    ["Web_App", '"web-app"'],
    ["-a", '"a"'],
    ["a-", '"a"'],
    ["", '"workload"'],
    ["é", '"workload"'],
    ["a".repeat(64), `"${"a".repeat(63)}"`],
    ["a\n", '"a"'],
  ])("refuses %j and proposes a legal one", (name, remedy) => {
    expect(flaw({ name }).remedy).toContain(remedy);
  });
});

describe("run and entrypoint", () => {
  it.each([
    ["run", "make", /Write a list/],
    ["run", null, /Write a list/],
    ["run", [""], /one shell command/],
    ["run", [" \n"], /one shell command/],
    ["run", [["a"]], /one shell command/],
    ["run", [{ "echo a": "b" }], /needs quotes/],
    ["run", ["a\u0000b"], /Remove the control/],
    ["run", ["a\r\nb"], /Line breaks are \\n/],
    ["run", ["a".repeat(FORMFILE_LIMITS.argumentBytes + 1)], /include/],
    ["entrypoint", "", /one shell command/],
    ["entrypoint", [], /list/],
    ["entrypoint", [" "], /list/],
    ["entrypoint", ["a", 80], /quote numbers/],
    ["entrypoint", 80, /string/],
    ["entrypoint", {}, /string/],
  ])("refuse %s: %j", (key, value, remedy) => {
    const issue = flaw({ [key]: value });
    expect(issue.path).toMatch(new RegExp(`^${key}`));
    expect(issue.remedy).toMatch(remedy);
  });

  it("entrypoint may be null, a command or a program with arguments", () => {
    for (const entrypoint of [null, "exec nginx", ["nginx", "-g", ""]])
      expect(accepted({ from: "x", entrypoint }).entrypoint).toEqual(entrypoint);
  });
});

describe("include", () => {
  it.each([
    "/etc/passwd",
    "..",
    "../x",
    "a/../../b",
    "a/..",
    "",
    " ",
    "~",
    "~/x",
    "~root/x",
    "a\\b",
    "C:/x",
    "a\u0000b",
    "a\nb",
    "a\u202eb",
    "*.js",
    "a?",
    "a".repeat(256),
    "a/".repeat(2048),
  ])("refuses %j", (path) => {
    expect(flaw({ include: [path] }).path).toBe("include[0]");
  });

  it("says that patterns are not expanded", () => {
    expect(flaw({ include: ["src/*"] }).remedy).toMatch(/^Patterns are not expanded\. Name the directory/);
  });

  it("takes names that only look odd, literally", () => {
    const include = ["[id].tsx", "a..b", "...", ".env", "a~", "a b", "ünï", "-x", "a:b"];
    expect(accepted({ from: "x", include }).include).toEqual(include);
  });

  it("keeps the shortest spelling, and refuses the same path twice", () => {
    expect(accepted({ from: "x", include: ["./a//b/./c/", "."] }).include).toEqual(["a/b/c", "."]);
    expect(flaw({ include: ["a", "./a/"] })).toMatchObject({
      path: "include[1]",
      problem: expect.stringContaining("include[0]"),
    });
  });
});

describe("env", () => {
  it.each(["1A", "A-B", "A B", "", "É", "A=B", "A\u0000"])("refuses the name %j", (key) => {
    expect(flaw({ env: { [key]: "x" } }).remedy).toMatch(/letters, digits and underscores/);
  });

  it.each([8080, true, null])("asks for quotes around %j", (value) => {
    expect(flaw({ env: { PORT: value } })).toMatchObject({
      path: "env.PORT",
      remedy: expect.stringContaining("quotes"),
    });
  });

  it("never repeats a value", () => {
    const hidden = "hunter2-hunter2";
    for (const value of [`${hidden}\u0000`, hidden.repeat(10_000), [hidden], { [hidden]: 1 }, 4815162342]) {
      const said = JSON.stringify(refused({ from: "x", env: { PASSWORD: value } }));
      expect(said).not.toMatch(/hunter2|4815162342/);
    }
    expect(JSON.stringify(refused(`from: x\nenv:\n  PASSWORD: "${hidden}\n`))).not.toContain(hidden);
  });

  it("is a mapping", () => {
    expect(flaw({ env: ["A=b"] }).remedy).toContain('{"KEY": "value"}');
  });

  it("holds no more per variable than Linux passes to a program", () => {
    const room = FORMFILE_LIMITS.argumentBytes - "A=".length;
    expect(accepted({ from: "x", env: { A: "x".repeat(room) } }).env["A"]).toHaveLength(room);
    expect(flaw({ env: { A: "x".repeat(room + 1) } }).path).toBe("env.A");
  });
});

describe("expose, resources and network", () => {
  it.each([
    [["8080/tcp"], ": 8080"],
    [["80:8081"], ": 8081"],
    [["443"], ": 443"],
    [[0], "number"],
    [[65536], "number"],
    [[80.5], "number"],
    [[Number.NaN], "number"],
    [[80, 80], "Remove one"],
    [8080, "[8080]"],
    [Array.from({ length: 33 }, (_, index) => index + 1), "Remove the others"],
  ])("expose refuses %j", (expose, remedy) => {
    expect(flaw({ expose }).remedy).toContain(remedy);
  });

  it.each([
    ["vcpus", 0],
    ["vcpus", 65],
    ["vcpus", 1.5],
    ["memory_mb", 63],
    ["memory_mb", 262_145],
    ["memory_mb", "512MB"],
    ["disk_gb", 0],
    ["disk_gb", 2049],
    ["disk_gb", Number.POSITIVE_INFINITY],
    ["disk_gb", true],
  ])("resources refuse %s: %j", (key, value) => {
    expect(flaw({ resources: { [key]: value } })).toMatchObject({
      path: `resources.${key}`,
      remedy: expect.stringContaining("plain number"),
    });
  });

  it.each([
    { join_formnet: "yes" },
    { join_formnet: 1 },
    { external_networks: "lan" },
    { external_networks: [""] },
    { external_networks: ["a", "a"] },
    { external_networks: ["a\nb"] },
  ])("network refuses %j", (network) => {
    expect(flaw({ network }).path).toMatch(/^network\./);
  });
});

describe("metadata", () => {
  it.each([
    [{ a: 1 }, "metadata.a"],
    [{ a: "x\ny" }, "metadata.a"],
    [{ "": "x" }, 'metadata[""]'],
    [{ "a\u0007": "x" }, 'metadata["a<U+0007>"]'],
    [{ a: "é".repeat(129) }, "metadata.a"],
    [{ ["é".repeat(129)]: "x" }, `metadata["${"é".repeat(48)}…"]`],
    [Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`k${index}`, ""])), "metadata"],
  ])("refuses %j", (metadata, path) => {
    expect(flaw({ metadata }).path).toBe(path);
  });

  it("takes 64 keys of 256 bytes", () => {
    const metadata = Object.fromEntries(
      Array.from({ length: 64 }, (_, index) => [String(index).padStart(256, "k"), "v".repeat(256)]),
    );
    expect(accepted({ from: "x", metadata }).metadata).toEqual(metadata);
  });
});

describe("unknown keys", () => {
  it.each([
    [{ fron: "x" }, '"from"'],
    [{ From: "x" }, '"from"'],
    [{ incldue: [] }, '"include"'],
    [{ entrypiont: "" }, '"entrypoint"'],
    [{ image: "x" }, '"from"'],
    [{ CMD: "x" }, '"entrypoint"'],
    [{ ports: [] }, '"expose"'],
    [{ labels: {} }, '"metadata"'],
    [{ vcpus: 1 }, '"vcpus", under "resources"'],
    [{ memory: 1 }, '"memory_mb", under "resources"'],
    [{ xyzzyxyzzy: 1 }, "from, name, run"],
    [{ resources: { cpu: 1 } }, '"vcpus"'],
    [{ resources: { "memory-mb": 1 } }, '"memory_mb"'],
    [{ resources: { memory_gb: 1 } }, '"memory_mb"'],
    [{ resources: { env: {} } }, '"env", at the top level'],
    [{ network: { join_fromnet: true } }, '"join_formnet"'],
  ])("%j: the nearest known key is named", (part, remedy) => {
    const issue = flaw(part);
    expect(issue.problem).toMatch(/^Unknown key/);
    expect(issue.remedy).toContain(remedy);
  });
});
