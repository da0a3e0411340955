import { FORMFILE_LIMITS, parseFormfile } from "@formation-mcp/formfile";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Document } from "yaml";
import { formfiles, mutations } from "./arbitraries.ts";
import { accepted, refused } from "./support.ts";

const yaml = (value: unknown, options = {}) =>
  new Document(value, { aliasDuplicateObjects: false }).toString(options);

describe("a valid formfile", () => {
  it("means the same as an object, as JSON text and as YAML text in any layout", () => {
    fc.assert(
      fc.property(formfiles, fc.nat(4), fc.constantFrom(20, 80, 0), (formfile, indent, width) => {
        // The library's writer folds lines in the middle of a surrogate pair.
        const lineWidth = /[\u{10000}-\u{10ffff}]/u.test(JSON.stringify(formfile)) ? 0 : width;
        const expected = accepted(formfile);
        expect(accepted(JSON.stringify(formfile))).toEqual(expected);
        expect(accepted(JSON.stringify(formfile, null, indent))).toEqual(expected);
        const text = yaml(formfile, { lineWidth, indent: Math.max(1, indent) });
        expect(accepted(text)).toEqual(expected);
        expect(accepted(`\uFEFF${text}`)).toEqual(expected);
        expect(accepted(`---\n${yaml(formfile, { collectionStyle: "flow", lineWidth })}`)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  it("parses to something that parses to itself", () => {
    fc.assert(
      fc.property(formfiles, (formfile) => {
        const once = parseFormfile(formfile);
        if (!once.ok) throw new Error(JSON.stringify(once.issues));
        expect(parseFormfile(once.formfile)).toEqual(once);
        expect(parseFormfile(JSON.stringify(once.formfile))).toEqual(once);
      }),
      { numRuns: 300 },
    );
  });

  it("is not changed by the parse", () => {
    fc.assert(
      fc.property(formfiles, (formfile) => {
        const before = structuredClone(formfile);
        parseFormfile(formfile);
        expect(formfile).toEqual(before);
      }),
    );
  });
});

describe("anything at all", () => {
  const soup = fc
    .array(
      fc.constantFrom(
        ...[
          "from",
          "run",
          "env",
          ": ",
          ":",
          "- ",
          "\n",
          "\n  ",
          "\t",
          " ",
          "[",
          "]",
          "{",
          "}",
          ",",
          '"',
          "'",
        ],
        ...[
          "#",
          "&a",
          "*a",
          "!t",
          "|",
          ">",
          "---\n",
          "...",
          "%",
          "<<",
          "?",
          "\\u00",
          "\0",
          "\r",
          "\u202e",
          "\ud800",
        ],
        ...["debian:12", "1", "true", "null", "~", "//", "/*", "*/", "FROM x\n"],
      ),
      { maxLength: 60 },
    )
    .map((parts) => parts.join(""));

  const anything = fc.oneof(
    fc.string({ unit: "binary", maxLength: 2000 }),
    soup,
    soup.map((text) => `{${text}`),
    soup.map((text) => `from: x\n${text}`),
    fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withNullPrototype: true,
      withSparseArray: true,
    }),
    fc.record({ from: fc.anything(), run: fc.anything(), env: fc.anything(), resources: fc.anything() }),
  );

  it("gets an answer that is well formed, and never an exception", () => {
    fc.assert(
      fc.property(anything, (input) => {
        const result = parseFormfile(input);
        if (result.ok) {
          expect(parseFormfile(result.formfile)).toEqual(result);
          return;
        }
        expect(result.issues.length).toBeGreaterThan(0);
        const text = typeof input === "string" ? input.replace(/^\uFEFF/, "") : undefined;
        const places = result.issues.map(({ line = 0, column = 0 }) => line * 1e6 + column);
        expect(places).toEqual(places.toSorted((a, b) => a - b));
        for (const { line, column } of result.issues) {
          if (text === undefined) expect([line, column]).toEqual([undefined, undefined]);
          else expect(inside(text, line, column)).toBe(true);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe("an issue", () => {
  it("points at the node that was spoilt, in JSON and in YAML", () => {
    fc.assert(
      fc.property(formfiles, mutations, fc.boolean(), (formfile, mutation, asJson) => {
        const spoilt = mutation.apply(structuredClone(formfile));
        const text = asJson ? JSON.stringify(spoilt, null, 2) : yaml(spoilt, { lineWidth: 0 });
        const issue = refused(text).find(({ path }) => path === mutation.path);
        if (issue === undefined)
          throw new Error(`no issue at ${mutation.path}: ${JSON.stringify(refused(text))}`);
        expect(inside(text, issue.line, issue.column)).toBe(true);
        const rest = text.split("\n")[(issue.line ?? 0) - 1]?.slice((issue.column ?? 0) - 1) ?? "";
        expect(rest.replace(/^["']/, "")).toMatch(mutation.shown);
        const asObject = refused(spoilt).find(({ path }) => path === mutation.path);
        expect(asObject).toMatchObject({ problem: issue.problem, remedy: issue.remedy });
      }),
      { numRuns: 500 },
    );
  });
});

/** Whether a place lies in the text; the end of a line and of the text count. */
function inside(text: string, line: number | undefined, column: number | undefined): boolean {
  const found = text.split("\n")[(line ?? 0) - 1];
  return found !== undefined && column !== undefined && column >= 1 && column <= found.length + 1;
}

it("the limits of this package are those of the page of numbers", () => {
  expect(FORMFILE_LIMITS).toMatchObject({
    textBytes: 262_144,
    metadataKeys: 64,
    metadataBytes: 256,
    vcpus: { min: 1, max: 64 },
    memoryMb: { min: 64, max: 262_144 },
    diskGb: { min: 1, max: 2048 },
  });
});
