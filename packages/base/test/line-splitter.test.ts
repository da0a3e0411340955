// Line splitters: however a stream is cut into chunks its lines are the same, and what is kept is bounded.

import { ByteLineSplitter, TextLineSplitter } from "@formation-mcp/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const LIMIT = 8;
type Seen = [line: string, isCut: boolean];

/** Bytes of ASCII alone, so that both splitters count the same; lines around the limit. */
const stream = fc
  .array(fc.string({ unit: fc.constantFrom("a", "b", "\r"), maxLength: 3 * LIMIT }), { maxLength: 12 })
  .map((lines) => lines.join("\n"));
const chunkLengths = fc.array(fc.integer({ min: 1, max: 2 * LIMIT }), { minLength: 1 });

function chunksOf(text: string, lengths: readonly number[]): string[] {
  const chunks: string[] = [];
  for (let at = 0, turn = 0; at < text.length; turn++) {
    const length = lengths[turn % lengths.length] ?? 1;
    chunks.push(text.slice(at, at + length));
    at += length;
  }
  return chunks;
}

/** What comes out of a whole text: the definition. */
function linesOf(text: string): Seen[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines.map((line) =>
    line.length > LIMIT ? [line.slice(0, LIMIT), true] : [line.replace(/\r$/, ""), false],
  );
}

function splitText(chunks: readonly string[]): Seen[] {
  const seen: Seen[] = [];
  const splitter = new TextLineSplitter(LIMIT, (line, isCut) => seen.push([line, isCut]));
  for (const chunk of chunks) splitter.push(chunk);
  splitter.flush();
  return seen;
}

function splitBytes(chunks: readonly string[], onRest?: (piece: Uint8Array, isEnd: boolean) => void): Seen[] {
  const seen: Seen[] = [];
  const splitter = new ByteLineSplitter(
    LIMIT,
    (line, isCut) => seen.push([new TextDecoder().decode(line), isCut]),
    onRest,
  );
  for (const chunk of chunks) {
    splitter.push(new TextEncoder().encode(chunk));
    expect(splitter.pending).toBeLessThanOrEqual(LIMIT);
  }
  splitter.flush();
  expect(splitter.pending).toBe(0);
  return seen;
}

describe.each([
  ["text", splitText],
  ["bytes", (chunks: readonly string[]) => splitBytes(chunks)],
])("lines of %s", (_, split) => {
  it("do not depend on how the stream is cut into chunks", () => {
    fc.assert(
      fc.property(stream, chunkLengths, (text, lengths) => {
        expect(split(chunksOf(text, lengths))).toEqual(linesOf(text));
      }),
    );
  });

  it("end at a newline or with the stream, a carriage return before it taken off", () => {
    expect(split(["one\r\ntwo\n\nla", "st"])).toEqual([
      ["one", false],
      ["two", false],
      ["", false],
      ["last", false],
    ]);
  });

  it("are cut at the limit, and told before they end", () => {
    const seen: Seen[] = [];
    expect(split(["0123456789", "abc", "\nnext\n"])).toEqual([
      ["01234567", true],
      ["next", false],
    ]);
    const text = new TextLineSplitter(LIMIT, (line, isCut) => seen.push([line, isCut]));
    text.push("0123456789");
    expect(seen).toEqual([["01234567", true]]);
  });
});

describe("a splitter of bytes", () => {
  it("hands the rest of a cut line to whom it is given, with its end", () => {
    fc.assert(
      fc.property(stream, chunkLengths, (text, lengths) => {
        let rest = "";
        splitBytes(chunksOf(`${text}\n`, lengths), (piece, isEnd) => {
          rest += new TextDecoder().decode(piece) + (isEnd ? "|" : "");
        });
        const longOnes = text.split("\n").filter((line) => line.length > LIMIT);
        expect(rest).toBe(longOnes.map((line) => `${line.slice(LIMIT)}|`).join(""));
      }),
    );
  });

  it("counts the bytes of the line that has no end yet", () => {
    const splitter = new ByteLineSplitter(LIMIT, () => {});
    const push = (text: string) => splitter.push(new TextEncoder().encode(text));
    push("abc");
    expect(splitter.pending).toBe(3);
    push("d\nef");
    expect(splitter.pending).toBe(2);
    push("0123456789");
    expect(splitter.pending).toBe(0);
  });
});
