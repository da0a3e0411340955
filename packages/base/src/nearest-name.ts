// Which known name a misspelt one probably means: the one with the fewest edits between them.

/**
 * Single-character insertions, deletions and substitutions between two texts, a swap of two neighbours
 * counting as one edit (optimal string alignment distance). Takes time in proportion to both lengths
 * (UTF-16 units): bound untrusted texts.
 */
export function editDistance(a: string, b: string): number {
  const width = b.length + 1;
  let beforeLast = new Array<number>(width).fill(0);
  let last = Array.from({ length: width }, (_, column) => column);
  let row = new Array<number>(width).fill(0);
  for (let i = 1; i <= a.length; i++) {
    row[0] = i;
    for (let j = 1; j < width; j++) {
      const same = a[i - 1] === b[j - 1];
      let edits = (last[j - 1] as number) + (same ? 0 : 1);
      edits = Math.min(edits, (last[j] as number) + 1, (row[j - 1] as number) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        edits = Math.min(edits, (beforeLast[j - 2] as number) + 1);
      row[j] = edits;
    }
    [beforeLast, last, row] = [last, row, beforeLast];
  }
  return last[b.length] as number;
}

/**
 * The known name with the fewest edits from the given one, the first of several; undefined if none is
 * known.
 */
export function nearestName(
  name: string,
  known: Iterable<string>,
): { name: string; distance: number } | undefined {
  let nearest: { name: string; distance: number } | undefined;
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (nearest === undefined || distance < nearest.distance) nearest = { name: candidate, distance };
  }
  return nearest;
}
