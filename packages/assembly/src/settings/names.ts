// Unknown variables: what begins like a setting of ours and is none. A name that is almost right is a
// mistake, whichever program the setting belongs to.

import { nearestName } from "@formation-mcp/base";
import type { Environment } from "./setting.ts";
import { SETTINGS } from "./table.ts";

/** Names that our own processes, tests and `deploy/` use and that are no settings. */
const INTERNAL = /^FORMATION_(STATE|FAKE_BUILD|SEED|(SERVER|WORKER)_PASSWORD|(\w+_)?TEST_\w+)$/;
/** A name with at most this many edits from a setting's name is that setting, misspelt. */
const MAX_EDITS = 2;

/**
 * The variables that begin with FORMATION_ and are no settings. `misspelt` has a line for each that is almost
 * a setting; `unknown` names the others, which may belong to another program, like those that Kubernetes sets
 * for a service.
 */
export function unknownVariables(environment: Environment): {
  misspelt: string[];
  unknown: string[];
} {
  const names = SETTINGS.map(({ name }) => name);
  const others = Object.keys(environment).filter(
    (name) => name.startsWith("FORMATION_") && !names.includes(name) && !INTERNAL.test(name),
  );
  const meant = others.map((name) => {
    const nearest = nearestName(name, names);
    return [name, nearest && nearest.distance <= MAX_EDITS ? nearest.name : undefined] as const;
  });
  return {
    misspelt: meant.flatMap(([name, known]) =>
      known === undefined ? [] : [`${name}: there is no such setting; write ${known}`],
    ),
    unknown: meant.flatMap(([name, known]) => (known === undefined ? [name] : [])),
  };
}
