// Plain text: what is left after cleaning drives no terminal and hides nothing, and ordinary text stays as
// it is.

import {
  escapeHidden,
  hasControls,
  replaceUnprintable,
  withoutControls,
  withoutEscapeSequences,
  withoutInvisible,
} from "@formation-mcp/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

/** Text with many characters that are none. */
const hostile = fc.string({
  unit: fc.oneof(
    fc.constantFrom(
      "\u001b",
      "[",
      "]",
      "0",
      ";",
      "m",
      "\u0007",
      "\u009b",
      "\u009d",
      "\u202e",
      "\u2066",
      "\u200b",
    ),
    fc.constantFrom("\n", "\t", "\r", "\u0085", "\u2028", "\ue000", "\ud800", "a", "é", "日", "👍"),
  ),
});
const ORDINARY = "Grüße, 日本 👍: `a/b`\t(100 %)\nzweite Zeile";

describe("escape sequences", () => {
  it.each([
    ["colours", "\u001b[1;31mred\u001b[0m", "red"],
    ["colours in 8 bits", "\u009b31mred", "red"],
    ["a window's title, with its text", "\u001b]0;title\u0007shown", "shown"],
    ["a link", "\u001b]8;;https://example.org\u001b\\text\u001b]8;;\u001b\\", "text"],
    ["a device control string", "\u001bPq#0;2\u001b\\shown", "shown"],
    ["a reset", "\u001bcshown", "shown"],
    ["a character set", "\u001b(Bshown", "shown"],
    ["a string without an end, to the line's end", "\u001b]0;title\nshown", "\nshown"],
  ])("are taken out: %s", (_, text, left) => {
    expect(withoutEscapeSequences(text)).toBe(left);
  });
});

describe("cleaning", () => {
  it("leaves ordinary text as it is", () => {
    for (const clean of [withoutEscapeSequences, withoutControls, withoutInvisible])
      expect(clean(ORDINARY)).toBe(ORDINARY);
  });

  it("leaves no control character but tab and newline", () => {
    fc.assert(
      fc.property(hostile, (text) => {
        expect(hasControls(withoutControls(text).replace(/[\t\n]/g, ""))).toBe(false);
        expect(hasControls(withoutInvisible(text).replace(/[\t\n]/g, ""))).toBe(false);
      }),
    );
  });

  it("leaves no character that turns text around, hides in it or shows nothing", () => {
    expect(withoutInvisible("a\u202eb\u2066c\u200bd\u00ade\ufe0ff\ue000g\u{e0041}h")).toBe("abcdefgh");
    expect(replaceUnprintable("a\u202eb\u2028c\ud800d\ue000e\tf\ng", "?")).toBe("a?b?c?d?e?f?g");
    expect(replaceUnprintable("a\u0000", "$&")).toBe("a$&");
  });

  it("spells what a terminal obeys or hides, and nothing else", () => {
    const spell = (character: string) => `<${character.codePointAt(0)?.toString(16)}>`;
    expect(escapeHidden(`a\u001b[0m\u202e\u2029\u{e0041}\n${"é👍"}`, spell)).toBe(
      "a<1b>[0m<202e><2029><e0041><a>é👍",
    );
  });

  it("finds control characters of C0, DEL and C1", () => {
    for (const code of [0, 9, 10, 0x1f, 0x7f, 0x80, 0x9f])
      expect(hasControls(`a${String.fromCharCode(code)}`)).toBe(true);
    for (const text of ["", " ", "~", "\u00a0", "\u202e", "é"]) expect(hasControls(text)).toBe(false);
  });
});
