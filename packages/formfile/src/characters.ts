// Which characters a formfile may contain, and how untrusted text is quoted in a message: short, and without
// invisible characters.

const encoder = new TextEncoder();

/** The length of a text in bytes of UTF-8. */
export function byteLength(text: string): number {
  return encoder.encode(text).length;
}

/** C0, DEL, C1, bidirectional overrides and isolates, and halves of surrogate pairs. */
function isForbidden(code: number): boolean {
  return (
    code < 0x20 ||
    (code >= 0x7f && code <= 0x9f) ||
    (code >= 0x202a && code <= 0x202e) ||
    (code >= 0x2066 && code <= 0x2069) ||
    (code >= 0xd800 && code <= 0xdfff)
  );
}

/** A character as U+XXXX. */
export function codeName(code: number): string {
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** The forbidden characters of a text with their offsets, except those in `allowed`. */
export function* forbiddenIn(text: string, allowed: string): Generator<{ offset: number; code: number }> {
  for (let offset = 0; offset < text.length; offset += 1) {
    const code = text.codePointAt(offset) ?? 0;
    if (isForbidden(code) && !allowed.includes(String.fromCharCode(code))) yield { offset, code };
    if (code > 0xffff) offset += 1;
  }
}

/** Quotes a text for a message: at most `maxChars` characters, forbidden ones as `<U+XXXX>`. */
export function quote(text: string, maxChars = 48): string {
  let shown = "";
  let left = maxChars;
  for (const character of text) {
    if (left === 0) return `"${shown}…"`;
    left -= 1;
    const code = character.codePointAt(0) ?? 0;
    shown += isForbidden(code) ? `<${codeName(code)}>` : character;
  }
  return `"${shown}"`;
}

/** Appends a key or an index to a path, as issues write paths. */
export function childPath(path: string, key: string | number): string {
  if (typeof key === "number") return `${path}[${key}]`;
  if (!/^[A-Za-z_$][\w$-]{0,63}$/.test(key)) return `${path}[${quote(key)}]`;
  return path === "" ? key : `${path}.${key}`;
}
