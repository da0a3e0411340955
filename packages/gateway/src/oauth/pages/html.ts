// HTML templates: every value is escaped as text, unless this module made it.

/** Text that is HTML already; it is not escaped again. */
export class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Piece = Markup | string | number | null | readonly Piece[];

/** A template tag that escapes its values, for content and for quoted attributes. */
export function html(strings: TemplateStringsArray, ...values: readonly Piece[]): Markup {
  return new Markup(strings.map((part, at) => part + (at < values.length ? show(values[at]) : "")).join(""));
}

function show(value: Piece | undefined): string {
  if (value instanceof Markup) return value.text;
  if (Array.isArray(value)) return (value as readonly Piece[]).map(show).join("");
  return String(value ?? "").replace(/[&<>"'`]/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
