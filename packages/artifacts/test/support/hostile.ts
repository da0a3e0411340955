// Archives that must never become a context, each named by what it attempts.

import { pax, type RawEntry } from "@formation-mcp/artifacts/testing/raw-tar";

const evil = { name: "x", body: "evil" };
/** What each archive attempts, and its entries in addition to a valid one. */
export const HOSTILE: readonly [string, RawEntry[]][] = [
  ["an absolute path", [{ ...evil, name: "/etc/evil" }]],
  ["a path that climbs", [{ ...evil, name: "../outside.txt" }]],
  ["a path that climbs later", [{ ...evil, name: "a/../../outside.txt" }]],
  ["a path that climbs and comes back", [{ ...evil, name: "a/../b" }]],
  ["a path with a dot in it", [{ ...evil, name: "a/./b" }]],
  ["a path with an empty part", [{ ...evil, name: "a//b" }]],
  ["a file without a name", [{ ...evil, name: "" }]],
  ["a file named .", [{ ...evil, name: "." }]],
  ["a name with a line end", [{ ...evil, name: "a\nb" }]],
  ["a name with an escape sequence", [{ ...evil, name: "\u001b[2J" }]],
  ["a name with a NUL, by pax", [pax({ path: "a\0b" }), evil]],
  ["a path that climbs, by pax", [pax({ path: "../outside.txt" }), evil]],
  [
    "a path that climbs, by a global header",
    [pax({ path: "../outside.txt" }, "g"), pax({ comment: "x" }), evil],
  ],
  ["a path that climbs, by a GNU long name", [{ name: "L", type: "L", body: "../outside.txt\0" }, evil]],
  ["a name that is too long", [pax({ path: "n".repeat(256) }), evil]],
  ["a path that is too long", [pax({ path: `${"dir/".repeat(1100)}f` }), evil]],
  ["a size that is another, by pax", [pax({ size: "1" }), evil]],
  ["a negative size, by pax", [pax({ size: "-4" }), evil]],
  ["a sparse file", [pax({ "GNU.sparse.major": "1" }), evil]],
  ["an absolute link", [{ name: "l", type: "2", link: "/etc/passwd" }]],
  ["a link out", [{ name: "l", type: "2", link: "../outside.txt" }]],
  ["a link out, from below", [{ name: "a/b/l", type: "2", link: "../../../outside.txt" }]],
  ["a link out, by pax", [pax({ linkpath: "../outside.txt" }), { name: "l", type: "2", link: "ok" }]],
  ["a link without a target", [{ name: "l", type: "2", link: "" }]],
  [
    "links that leave together",
    [
      { name: "a", type: "2", link: "d" },
      { name: "d/", type: "5" },
      { name: "d/up", type: "2", link: ".." },
      { name: "b", type: "2", link: "d/up/../outside.txt" },
    ],
  ],
  [
    "a link whose spelling stays and whose way leaves",
    [
      { name: "a/b/", type: "5" },
      { name: "s", type: "2", link: "." },
      { name: "t", type: "2", link: "a/b/../../s/.." },
    ],
  ],
  [
    "links without end",
    [
      { name: "a", type: "2", link: "b" },
      { name: "b", type: "2", link: "a" },
    ],
  ],
  [
    "a file through a link",
    [
      { name: "l", type: "2", link: "." },
      { ...evil, name: "l/x" },
    ],
  ],
  [
    "a file over a link",
    [
      { name: "l", type: "2", link: "target" },
      { ...evil, name: "l" },
    ],
  ],
  [
    "a link over a directory",
    [
      { name: "d/x", body: "x" },
      { name: "d", type: "2", link: "." },
    ],
  ],
  [
    "a file over a directory",
    [
      { name: "d/x", body: "x" },
      { ...evil, name: "d" },
    ],
  ],
  [
    "a directory over a file",
    [
      { ...evil, name: "d" },
      { name: "d/x", body: "x" },
    ],
  ],
  ["the same file twice", [evil, evil]],
  ["a hard link", [{ name: "h", type: "1", link: "../outside.txt" }]],
  ["a hard link inside", [evil, { name: "h", type: "1", link: "x" }]],
  ["a character device", [{ name: "c", type: "3" }]],
  ["a block device", [{ name: "b", type: "4" }]],
  ["a pipe", [{ name: "p", type: "6" }]],
  ["a thing of no known kind", [{ name: "s", type: "S", body: "x" }]],
  ["a directory with content", [{ name: "d/", type: "5", body: "x" }]],
  ["a link with content", [{ name: "l", type: "2", link: "x", body: "x" }]],
];
