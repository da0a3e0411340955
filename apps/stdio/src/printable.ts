// Untrusted text on a terminal: characters that a terminal would obey or hide are shown escaped.

import { escapeHidden } from "@formation-mcp/base";

/** The text in one line, at most 200 characters. */
export function printable(text: string): string {
  const shown = visible(text);
  return shown.length > 200 ? `${shown.slice(0, 199)}…` : shown;
}

/** The text in its lines. */
export function printableLines(text: string): string {
  return text.split("\n").map(visible).join("\n");
}

function visible(text: string): string {
  return escapeHidden(text, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}
