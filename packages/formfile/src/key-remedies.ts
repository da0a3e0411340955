// Which known key was probably meant: by spelling, by the word that other formats use, or by its level.

import { nearestName } from "@formation-mcp/base";

export const KEYS = {
  "": ["from", "name", "run", "include", "env", "expose", "entrypoint", "resources", "network", "metadata"],
  resources: ["vcpus", "memory_mb", "disk_gb"],
  network: ["join_formnet", "external_networks"],
} as const;

export type Level = keyof typeof KEYS;

/** Words of Dockerfiles, compose files, fly.toml and Kubernetes, and the key for each. */
const KEY_BY_FOREIGN_WORD = new Map([
  ["image", "from"],
  ["base", "from"],
  ["cmd", "entrypoint"],
  ["command", "entrypoint"],
  ["args", "entrypoint"],
  ["commands", "run"],
  ["steps", "run"],
  ["copy", "include"],
  ["add", "include"],
  ["files", "include"],
  ["ports", "expose"],
  ["port", "expose"],
  ["environment", "env"],
  ["labels", "metadata"],
  ["label", "metadata"],
  ["tags", "metadata"],
  ["title", "name"],
  ["networks", "network"],
  ["limits", "resources"],
  ["cpu", "resources.vcpus"],
  ["cpus", "resources.vcpus"],
  ["cores", "resources.vcpus"],
  ["mem", "resources.memory_mb"],
  ["memory", "resources.memory_mb"],
  ["ram", "resources.memory_mb"],
  ["disk", "resources.disk_gb"],
  ["storage", "resources.disk_gb"],
  ["formnet", "network.join_formnet"],
]);

const MAX_WORD_CHARS = 32;

/** The remedy for an unknown key: what to write instead. */
export function keyRemedy(key: string, level: Level): string {
  const word = key.slice(0, MAX_WORD_CHARS).trim().toLowerCase().replaceAll("-", "_");
  const known: readonly string[] = KEYS[level];
  if (known.includes(word)) return `Write "${word}", exactly so.`;
  const elsewhere = KEY_BY_FOREIGN_WORD.get(word) ?? pathOf(word);
  if (elsewhere !== undefined) {
    const [first = "", second] = elsewhere.split(".");
    const here = level === first ? second : second === undefined && level === "" ? first : undefined;
    if (here !== undefined) return `Write "${here}".`;
    return second === undefined
      ? `Write "${first}", at the top level.`
      : `Write "${second}", under "${first}".`;
  }
  const { name: nearest = "", distance = Number.POSITIVE_INFINITY } = nearestName(word, known) ?? {};
  if (distance <= Math.max(1, Math.floor(nearest.length / 3))) return `Did you mean "${nearest}"?`;
  return `Remove it, or write a known key (the nearest is "${nearest}"): ${known.join(", ")}.`;
}

function pathOf(word: string): string | undefined {
  for (const [level, keys] of Object.entries(KEYS))
    if ((keys as readonly string[]).includes(word)) return level === "" ? word : `${level}.${word}`;
  return undefined;
}
