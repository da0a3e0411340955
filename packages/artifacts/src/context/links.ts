// Where symbolic links lead. A link may stay in a context only if following it, with every link on its way, never leaves
// the context: checked by walking, because the shortest spelling of a path says nothing where links are.

const HOPS = 40; // what Linux follows before it gives up (path_resolution(7))

/** How many steps all links of one context together may take; ends archives made of nothing but long chains. */
export interface LinkBudget {
  steps: number;
}

/**
 * Whether the link at `path` stays inside. `readLink` gives the target of a link inside the context, null for anything
 * else. The directories above `path` must be no links.
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
    if (further.startsWith("/") || ++hops > HOPS) return false;
    ahead.push(...further.split("/").reverse());
  }
  return true;
}
