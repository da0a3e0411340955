import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import { printable, printableLines } from "../src/printable.ts";
import { parseDuration } from "../src/remote/durations.ts";
import { askSecret, askYes } from "../src/remote/terminal.ts";

/** A terminal that a test types on; it remembers what it shows and whether it echoes. */
function terminal() {
  const modes: boolean[] = [];
  const input = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: (raw: boolean) => modes.push(raw),
  });
  const output = new PassThrough();
  return { input, output, modes, shown: () => String(output.read() ?? "") };
}

describe("asking for a secret", () => {
  it.each([
    ["a word", "correct horse\r", "correct horse"],
    ["corrections", "correcz\u007ft\r", "correct"],
    ["other scripts, by character", "пароль🐎\u007f\r", "пароль"],
    ["arrow keys left out", "ab\u001b\r", "ab"],
  ])("takes %s and shows none of it", async (_, typed, read) => {
    const tty = terminal();
    const asked = askSecret("Passphrase: ", tty);
    for (const character of typed) tty.input.write(character);
    expect(await asked).toBe(read);
    expect(tty.shown()).toBe("Passphrase: \n");
    expect(tty.modes).toEqual([true, false]);
  });

  it.each([
    ["Ctrl-C", (input: PassThrough) => input.write("abc\u0003")],
    ["the end of the input", (input: PassThrough) => input.end("abc")],
  ])("is given up with %s, and the terminal is as before", async (_, act) => {
    const tty = terminal();
    const asked = askSecret("Passphrase: ", tty);
    act(tty.input);
    await expect(asked).rejects.toMatchObject({ code: "cancelled" });
    expect(tty.modes).toEqual([true, false]);
  });

  it("needs a terminal", async () => {
    const pipe = { input: new PassThrough(), output: new PassThrough() };
    await expect(askSecret("Passphrase: ", pipe)).rejects.toMatchObject({
      code: "invalid",
      details: { remedy: expect.stringContaining("FORMATION_KEY_PASSPHRASE") },
    });
  });
});

describe("asking yes or no", () => {
  it.each([
    ["y\n", true],
    ["Yes\n", true],
    ["\n", false],
    ["no\n", false],
    ["yesterday\n", false],
    ["", false],
  ])("%j is %s", async (typed, answer) => {
    const tty = terminal();
    const asked = askYes("Sign it?", tty);
    tty.input.end(typed);
    expect(await asked).toBe(answer);
  });
});

describe("a stranger's words on a terminal", () => {
  it("neither colour it, move on it, nor hide in it", () => {
    expect(printable("a\u001b[2Jb\r\n\u202e\u200bc\u2028")).toBe(
      "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{202e}\\u{200b}c\\u{2028}",
    );
    expect(printable("x".repeat(500))).toHaveLength(200);
    expect(printableLines("one\n\u0007two")).toBe("one\n\\u{7}two");
  });
});

describe("a span of time", () => {
  it.each([
    ["45s", 45],
    ["10m", 600],
    ["12h", 43_200],
    ["30d", 2_592_000],
  ])("%s is %i seconds", (text, seconds) => {
    expect(parseDuration(text, "--expires")).toBe(seconds);
  });

  it.each(["", "0d", "-1d", "1w", "1.5h", "d", "9999999d"])("%j is none", (text) => {
    expect(() => parseDuration(text, "--expires")).toThrowError(expect.objectContaining({ code: "invalid" }));
  });
});
