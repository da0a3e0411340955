// Directory artifacts that say that several nodes share them.

import type { Artifacts } from "@formation-mcp/artifacts";

export function sharedArtifacts(kept: Artifacts): Artifacts {
  return new Proxy(kept, {
    get(target, name: keyof Artifacts) {
      const value = target[name];
      return name === "shared" ? true : typeof value === "function" ? value.bind(target) : value;
    },
  });
}
