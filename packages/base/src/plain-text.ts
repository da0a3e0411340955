// Cleans untrusted text of characters that control a terminal, are invisible, or change how the text around
// them reads: control characters, terminal escape sequences, bidirectional and other format characters. The
// names of the sets are Unicode's general categories (UAX #44): Cc control, Cf format, Cs surrogate, Co
// private use, Cn unassigned, Zl and Zp separators.

const CONTROL = /\p{Cc}/u;
const CONTROL_BUT_TAB_AND_NEWLINE = /(?![\t\n])\p{Cc}/gu;
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;
const INVISIBLE = /(?![\t\n])\p{Cc}|\p{Cf}|\p{Default_Ignorable_Code_Point}|\p{Co}/gu;

const ESC = "\\u001b";
/**
 * ECMA-48: control sequences, control strings (OSC, DCS, SOS, PM, APC) with their text, and other escape
 * sequences.
 */
const ESCAPE_SEQUENCES = new RegExp(
  [
    `(?:${ESC}\\[|\\u009b)[0-?]*[ -/]*[@-~]`,
    `(?:${ESC}[\\]PX^_]|[\\u009d\\u0090\\u0098\\u009e\\u009f])[^\\u0007\\u001b\\u009c\\n]*(?:\\u0007|${ESC}\\\\|\\u009c)?`,
    `${ESC}[ -/]*[0-~]`,
  ].join("|"),
  "g",
);

/** Whether a text has a control character: C0 (tab and newline too), DEL or C1. */
export function hasControls(text: string): boolean {
  return CONTROL.test(text);
}

/** The text without the escape sequences that a terminal obeys (ECMA-48), in 7 and 8 bits. */
export function withoutEscapeSequences(text: string): string {
  return text.replace(ESCAPE_SEQUENCES, "");
}

/** The text without escape sequences and without control characters other than tab and newline. */
export function withoutControls(text: string): string {
  if (!hasControls(text)) return text;
  return withoutEscapeSequences(text).replace(CONTROL_BUT_TAB_AND_NEWLINE, "");
}

/**
 * The text without invisible characters: control characters other than tab and newline, format
 * characters (bidirectional, zero width, tags), default-ignorable and private-use ones.
 */
export function withoutInvisible(text: string): string {
  return text.replace(INVISIBLE, "");
}

/**
 * Replaces each character that a terminal obeys or hides (Cc, Cf, Zl, Zp; tab and newline too) with what
 * `toEscape` returns.
 */
export function escapeHidden(text: string, toEscape: (character: string) => string): string {
  return text.replace(HIDDEN, toEscape);
}

/** Replaces each character that has no visible form of its own (C, Zl, Zp; tab and newline too). */
export function replaceUnprintable(text: string, replacement: string): string {
  return text.replace(UNPRINTABLE, () => replacement);
}
