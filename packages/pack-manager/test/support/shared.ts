// Artifacts in one directory, as several nodes see those that they share.

import type { Artifacts } from "@formation-mcp/artifacts";

export function sharedArtifacts(kept: Artifacts): Artifacts {
  return new Proxy(kept, {
    get(target, name: keyof Artifacts) {
      const value = target[name];
      return name === "shared" ? true : typeof value === "function" ? value.bind(target) : value;
    },
  });
}
