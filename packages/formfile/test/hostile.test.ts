import { FORMFILE_LIMITS, formfileError, parseFormfile } from "@formation-mcp/formfile";
import { describe, expect, it } from "vitest";
import { accepted, onlyIssue, places, refused } from "./support.ts";

const SIZE = FORMFILE_LIMITS.textBytes;
const fill = (piece: string, head = "", tail = "") =>
  head + piece.repeat(Math.floor((SIZE - head.length - tail.length) / piece.length)) + tail;

describe("a hostile text", () => {
  const pieces = [
    ...[
      "[",
      "{",
      "- ",
      "? ",
      ": ",
      '{"a":',
      "]",
      "}",
      ",",
      "'",
      '"',
      " ",
      "\n",
      "\t",
      "\r",
      "\0",
      "#\n",
      "---\n",
    ],
    ...[
      "&a ",
      "*a ",
      "!a ",
      "%a\n",
      "|\n",
      ">\n",
      "a: &a [*a]\n",
      "a:\n",
      "a: b\n",
      "from: 1\n",
      "/*",
      "//\n",
      "\\",
      "😀",
    ],
  ];
  // The limit of the test stands for "quickly": recursion and quadratic searches overrun it.
  it.each(pieces)(
    "of 256 KiB of %j is refused before it costs anything",
    (piece) => {
      for (const head of ["", "from: x\nrun: ", '{"from":"x","run":[']) {
        const result = parseFormfile(fill(piece, head).slice(0, SIZE / (piece === "😀" ? 4 : 1)));
        if (result.ok) throw new Error("accepted");
        expect(result.issues.length).toBeLessThanOrEqual(FORMFILE_LIMITS.issues + 1);
        expect(formfileError(result.issues).length).toBeLessThan(FORMFILE_LIMITS.errorLength + 100);
      }
    },
    60_000,
  );

  it("that multiplies itself through aliases is refused at every one of them", () => {
    const laughs = ["a: &a [x, x]", "b: &b [*a, *a]", "c: &c [*b, *b]", "from: *c"].join("\n");
    expect(places(laughs)).toHaveLength(3 + 3 + 5);
  });

  it("may be 256 KiB long and no longer", () => {
    const exact = `from: x\nrun:\n- ${"a".repeat(100_000)}\n- ${"b".repeat(100_000)}\n#`;
    expect(accepted(exact + "c".repeat(SIZE - exact.length)).run).toHaveLength(2);
    expect(onlyIssue(exact + "c".repeat(SIZE - exact.length + 1)).problem).toContain("262144 bytes");
    expect(onlyIssue(exact + "é".repeat((SIZE - exact.length) / 2 + 1)).problem).toContain("262144 bytes");
  });

  it("may be nested 16 deep and no deeper", () => {
    const yaml = (depth: number) => `from: x\nodd: ${"[".repeat(depth - 1)}${"]".repeat(depth - 1)}`;
    const json = (depth: number) => `{"from":"x","odd":${"[".repeat(depth - 1)}${"]".repeat(depth - 1)}}`;
    for (const text of [yaml, json]) {
      expect(onlyIssue(text(16)).problem).toContain("Unknown key");
      expect(onlyIssue(text(17)).problem).toContain("deeper than 16");
    }
    let deep: unknown = [];
    for (let depth = 1; depth < 15; depth += 1) deep = [deep];
    expect(onlyIssue({ from: "x", odd: deep }).problem).toContain("Unknown key");
    expect(
      refused({ from: "x", odd: [deep] })
        .map(({ problem }) => problem)
        .join(),
    ).toContain("deeper than 16");
  });

  it("gets at most 200 issues, the rest counted", () => {
    const issues = refused(`from: x\nexpose: [${"0, ".repeat(32)}]\nrun: [${"1, ".repeat(500)}]\n`);
    expect(issues).toHaveLength(201);
    expect(issues.at(-1)?.problem).toBe("332 more issues are not listed.");
  });

  it("is never echoed at length", () => {
    const long = "k".repeat(5000);
    for (const input of [
      { from: long },
      { from: "x", [long]: 1 },
      { from: "x", name: long },
      `from: x\n${long}: 1`,
    ])
      expect(formfileError(refused(input)).length).toBeLessThan(500);
  });
});

function fail(): never {
  throw new Error("no");
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

describe("a hostile object", () => {
  it("with a cycle is refused where it closes", () => {
    const cyclic: { [key: string]: unknown } = { from: "x" };
    cyclic["metadata"] = { self: cyclic };
    expect(onlyIssue(cyclic)).toMatchObject({
      path: "metadata.self",
      problem: expect.stringContaining("itself"),
    });
  });

  it("may use the same value twice without being a cycle", () => {
    const list: string[] = [];
    expect(accepted({ from: "x", run: list, include: list }).run).toEqual([]);
  });

  it("cannot reach a prototype", () => {
    const result = refused(
      '{"from": "x", "__proto__": {"polluted": 1}, "constructor": {"prototype": {}}, "env": {"__proto__": "a"}}',
    );
    expect(result.map(({ path }) => path)).toEqual(["__proto__", "constructor", "env.__proto__"]);
    expect(refused(JSON.parse('{"from":"x","metadata":{"__proto__":{"a":"b"}}}'))[0]?.path).toBe(
      "metadata.__proto__",
    );
    const formfile = accepted({
      from: "x",
      env: { constructor: "a", toString: "b" },
      metadata: { prototype: "c" },
    });
    expect(Object.entries(formfile.env)).toEqual([
      ["constructor", "a"],
      ["toString", "b"],
    ]);
    expect(Reflect.get({}, "polluted")).toBeUndefined();
  });

  it("inherits nothing", () => {
    expect(onlyIssue(Object.create({ from: "x" })).problem).toContain("class");
  });

  it.each<[string, () => unknown]>([
    ["undefined", () => undefined],
    ["null", () => null],
    ["a boolean", () => true],
    ["a number", () => 1],
    ["a bigint", () => 1n],
    ["a symbol", () => Symbol("x")],
    ["a function", () => () => 1],
    ["a Map", () => new Map()],
    ["a Date", () => new Date(0)],
    ["bytes", () => new Uint8Array(4)],
    ["a regular expression", () => /x/],
    ["a String object", () => Object("from: x")],
    ["a proxy that throws", () => new Proxy({}, { ownKeys: fail })],
    ["a revoked proxy", revoked],
    ["a getter that throws", () => Object.defineProperty({}, "from", { get: fail, enumerable: true })],
    ["a list of four thousand million holes", () => ({ from: "x", run: new Array(4_000_000_000) })],
    ["a list of holes", () => ({ from: "x", run: new Array(3) })],
    ["a long string", () => ({ from: "x", run: ["x".repeat(SIZE + 2048)] })],
    ["many long strings", () => ({ from: "x", run: new Array(100).fill("x".repeat(5000)) })],
    ["many values", () => ({ from: "x", run: new Array(10_000).fill("x") })],
    ["a bigint inside", () => ({ from: "x", metadata: { a: 1n } })],
  ])("such as %s is refused, and nothing is thrown", (_, make) => {
    refused(make());
  });

  it("may leave keys undefined", () => {
    expect(accepted({ from: "x", name: undefined, run: undefined }).name).toBe("x");
  });
});
