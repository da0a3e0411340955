// Checks where symbolic links lead. A link may be in a context only if following it, with every link on its
// way, never leaves the context. This is checked by walking the links; normalizing a path is not enough where
// it passes through links.

const MAX_HOPS = 40; // Linux's own limit (path_resolution(7))

/**
 * How many steps all links of one context together may take. It stops archives that consist of long chains of
 * links.
 */
export interface LinkBudget {
  steps: number;
}

/**
 * Whether the link at `path` stays inside the context. `readLink` returns the target of a link in the
 * context, null for anything else. The parent directories of `path` must not be links.
 */
export async function staysInside(
  path: string,
  target: string,
  readLink: (path: string) => string | null | Promise<string | null>,
  budget: LinkBudget,
): Promise<boolean> {
  if (target.startsWith("/") || target === "") return false;
  const at = path.split("/").slice(0, -1);
  const ahead = target.split("/").reverse();
  let hops = 0;
  for (let part = ahead.pop(); part !== undefined; part = ahead.pop()) {
    if (--budget.steps < 0) return false;
    if (part === "" || part === ".") continue;
    if (part === "..") {
      if (at.pop() === undefined) return false;
      continue;
    }
    const further = await readLink([...at, part].join("/"));
    if (further === null) {
      at.push(part);
      continue;
    }
    if (further.startsWith("/") || ++hops > MAX_HOPS) return false;
    ahead.push(...further.split("/").reverse());
  }
  return true;
}
