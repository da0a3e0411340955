// The syntax tree that the three readers (JSON text, YAML text, decoded object) produce for the rules: values
// with their places. Mappings are lists of entries, so an untrusted key never becomes a property of an
// object.

/** The place of a value: offsets into the text, or for decoded objects the order of visiting. */
interface Placed {
  at: number;
  end: number;
}

export interface Entry {
  key: string;
  at: number;
  end: number;
  value: Tree;
}

export type Tree =
  | (Placed & { kind: "map"; entries: Entry[] })
  | (Placed & { kind: "list"; items: Tree[] })
  | (Placed & { kind: "scalar"; value: string | number | boolean | null })
  /** A value that its reader has reported already. */
  | (Placed & { kind: "reported" });

/** The type of a value in words, for `must be …, not …`. */
export function describeType(tree: Tree): string {
  if (tree.kind === "map") return "a mapping";
  if (tree.kind === "list") return "a list";
  if (tree.kind === "reported") return "unreadable";
  if (tree.value === null) return "empty (null)";
  if (typeof tree.value === "boolean") return "a boolean";
  return typeof tree.value === "number" ? "a number" : "a string";
}
