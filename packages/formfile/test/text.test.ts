import { formfileError, parseFormfile } from "@formation-mcp/formfile";
import { describe, expect, it } from "vitest";
import { accepted, onlyIssue, places, refused } from "./support.ts";

describe("YAML", () => {
  it("is read by the 1.2 core schema", () => {
    const formfile = accepted(`# a comment
from: debian:12
run:
  - apt-get update
  - |
    make
    make install
env: {ANSWER: yes, NO: "no", LONG: 'it''s'}
expose: [0x50, 8081]
metadata:
  2024: year
  true: "yes"
`);
    expect(formfile.run).toEqual(["apt-get update", "make\nmake install\n"]);
    expect(formfile.env).toEqual({ ANSWER: "yes", NO: "no", LONG: "it's" });
    expect(formfile.expose).toEqual([80, 8081]);
    expect(formfile.metadata).toEqual({ 2024: "year", true: "yes" });
  });

  it("may use CRLF, a byte order mark, a document start and a document end", () => {
    expect(accepted("\uFEFF---\r\nfrom: x\r\nrun:\r\n  - |\r\n    a\r\n    b\r\n...\r\n").run).toEqual([
      "a\nb\n",
    ]);
  });

  it.each([
    ["a tab as indentation", "from: x\nrun:\n\t- a\n", ["3:1"]],
    ["a tab before a key", "\tfrom: x\n", ["1:1"]],
    ["an anchor", "from: &base x\n", ["1:7 from"]],
    ["an alias", "from: x\nrun: [*a]\n", ["2:7 run[0]"]],
    ["a merge key", "from: x\n<<: {name: a}\n", ['2:1 ["<<"]']],
    ["a tag", "from: !!str x\nrun: [!js/function a]\n", ["1:7 from", "2:7 run[0]"]],
    ["a directive", "%YAML 1.1\n---\nfrom: x\n", ["1:1"]],
    ["a second document", "from: x\n---\nfrom: y\n", ["2:1"]],
    ["a duplicate key", "from: x\nenv:\n  A: b\n  A: c\nfrom: y\n", ["4:3 env.A", "5:1 from"]],
    ["a complex key", "from: x\nenv:\n  ? [a]\n  : b\n", ["3:5"]],
    ["an unclosed quote", 'from: x\nname: "a\nrun: []\n', ["2:7"]],
    ["an unclosed bracket", "from: x\nrun: [a\n", ["3:1"]],
    ["a value with a colon", "from: x\nentrypoint: echo a: b\n", ["2:13"]],
    ["a reserved character", "from: @x\n", ["1:7"]],
    ["wrong indentation", "from: x\n name: a\n", ["1:7"]],
    ["a list of lists", "- from: x\n", ["1:1"]],
    ["plain text", "hello world\n", ["1:1"]],
    ["nothing", "", ["1:1"]],
    ["only comments", "# from: x\n", ["1:1"]],
    ["an empty value", "from: x\nname:\n", ["2:1 name"]],
  ])("%s is refused at its place", (_, text, expected) => {
    expect(places(text)).toEqual(expected);
  });

  it("reads a second document's first one all the same", () => {
    expect(places("from: X\n---\nfrom: y\n")).toEqual(["1:7 from", "2:1"]);
  });

  it("says that a list item with a colon needs quotes", () => {
    expect(onlyIssue("from: x\nrun:\n  - echo a: b\n").remedy).toContain("needs quotes");
  });
});

describe("JSON", () => {
  it.each([
    ["a trailing comma", '{"from": "x",\n "run": ["a",],}', ["2:13", "2:15"]],
    ["comments", '// one\n{"from": "x", /* two */ "name": "a" # three\n}', ["1:1", "2:15", "2:37"]],
    ["single quotes", "{'from': 'x'}", ["1:2"]],
    ["a single-quoted value", "{\"from\": 'x'}", ["1:10"]],
    ["a bare key", "{from: x}", ["1:2"]],
    ["a bare word", '{"from": debian}', ["1:10"]],
    ["a Python literal", '{"from": None}', ["1:10"]],
    ["a missing comma", '{"from": "x"\n "name": "a"}', ["2:2"]],
    ["a missing colon", '{"from" "x"}', ["1:9"]],
    ["a missing brace", '{"from": "x"', ["1:13"]],
    ["a wrong bracket", '{"run": ["a"}', ["1:13"]],
    ["nothing after the brace", "{", ["1:2"]],
    ["a leading comma", "{,}", ["1:2"]],
    ["an octal number", '{"expose": [080]}', ["1:13"]],
    ["a bad escape", '{"from": "\\x41"}', ["1:11"]],
    ["a line break in a string", '{"from": "x\n"}', ["1:10"]],
    ["a raw tab in a string", '{"from": "x", "run": ["a\tb"]}', ["1:25"]],
    ["two objects", '{"from": "x"} {}', ["1:15"]],
    ["a duplicate key", '{"from": "x",\n "from": "y"}', ["2:2 from"]],
    ["a list", "[]", ["1:1"]],
  ])("%s is refused at its place", (_, text, expected) => {
    expect(places(text)).toEqual(expected);
  });

  it("means what JSON.parse says", () => {
    const text =
      '\n{"from":"x","env":{"A":"\\u00e9\\ud83d\\ude00\\n\\/\\"\\\\"},"expose":[8.08e3],"entrypoint":null}\n';
    expect(accepted(text)).toEqual(accepted(JSON.parse(text)));
  });

  it("keeps looking after a slip, so the rules speak too", () => {
    expect(places('{"from": "X", "expose": ["80",],}')).toEqual([
      "1:10 from",
      "1:26 expose[0]",
      "1:30",
      "1:32",
    ]);
  });
});

describe("a Dockerfile", () => {
  it.each([
    ["FROM debian:12\nRUN make\n", "debian:12"],
    ["# syntax=docker/dockerfile:1\n\nFROM --platform=linux/amd64 node AS build\n", "debian:12"],
    ["ARG TAG=1\nFROM ghcr.io/a/b:$TAG\n", "debian:12"],
    ["from ghcr.io/a/b", "ghcr.io/a/b"],
  ])("is recognized and answered with the formfile's form: %j", (text, image) => {
    const issue = onlyIssue(text);
    expect(issue.problem).toContain("Dockerfile");
    expect(issue.remedy).toContain(`from: "${image}"`);
    expect(issue.remedy).toContain("entrypoint:");
  });
});

describe("characters that hide something", () => {
  it("are named, at their own place", () => {
    const text = "from: x\nrun: ['a\u202eb']\n# \u2066 comment\nname: a\n";
    expect(places(text)).toEqual(["2:9 run[0]", "3:3"]);
    expect(refused(text).map(({ problem }) => /U\+\w+/.exec(problem)?.[0])).toEqual(["U+202E", "U+2066"]);
  });

  it.each(["\u0000", "\u0007", "\u001b", "\u007f", "\u0085", "\u202a", "\u2069", "\ud800"])(
    "%j is refused in every kind of text",
    (character) => {
      for (const part of [
        { run: [`a${character}`] },
        { entrypoint: `a${character}` },
        { entrypoint: ["a", character] },
        { env: { A: character } },
        { include: [`a${character}`] },
        { metadata: { a: character } },
        { metadata: { [`a${character}`]: "" } },
        { network: { external_networks: [`a${character}`] } },
        { name: `a${character}` },
        { from: `a${character}` },
      ])
        refused({ from: "x", ...part });
    },
  );

  it("never reach the message", () => {
    const said = formfileError(refused({ from: "a\u0000\u202e\ud800", ["k\u001b"]: 1, name: "\u009b" }));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
    expect(said).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]|\p{Surrogate}/u);
    expect(said).toContain("<U+202E>");
  });
});

describe("formfileError", () => {
  it("is one line per issue with place, problem and remedy", () => {
    const result = parseFormfile("from: x\nports: [80]\nexpose: 80\n");
    expect(result.ok ? "" : formfileError(result.issues)).toBe(
      [
        "The formfile has 2 problems:",
        '- line 2, column 1, ports: Unknown key "ports". Write "expose".',
        "- line 3, column 9, expose: expose must be a list, not a number. Write a list: [8080].",
      ].join("\n"),
    );
    expect(formfileError(refused({}))).toMatch(/^The formfile has one problem:\n- from: from is missing\./);
  });
});
