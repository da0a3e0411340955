// The layers as tidy enforces them: which package is on which layer, and where each dependency
// lives.

/**
 * From the ground up. A package imports from lower layers alone. ARCHITECTURE.md has the same table and must
 * agree.
 */
export const LAYERS: readonly { layer: string; packages: readonly string[] }[] = [
  { layer: "F0", packages: ["packages/base"] },
  { layer: "F1", packages: ["packages/formfile"] },
  { layer: "F2", packages: ["packages/contract"] },
  { layer: "F3", packages: ["packages/os"] },
  {
    layer: "F4",
    packages: [
      "packages/auth",
      "packages/tools",
      "packages/queue",
      "packages/operations",
      "packages/artifacts",
      "packages/builder",
      "packages/hypervisor",
    ],
  },
  { layer: "F5", packages: ["packages/control", "packages/pack-manager", "packages/client"] },
  { layer: "F6", packages: ["packages/mcp"] },
  { layer: "F7", packages: ["packages/gateway"] },
  { layer: "F8", packages: ["packages/assembly"] },
  { layer: "F9", packages: ["apps/stdio", "apps/http", "apps/worker", "apps/console"] },
];

/**
 * The packages that may import a dependency: one home for each, but for zod, which describes data at every
 * boundary.
 */
export const HOMES: Readonly<Record<string, readonly string[]>> = {
  "@balena/dockerignore": ["packages/artifacts"],
  "@hono/node-server": ["apps/http"],
  "@modelcontextprotocol/server": ["packages/mcp", "packages/gateway", "apps/stdio"],
  "@nats-io/jetstream": ["packages/queue", "packages/artifacts"],
  "@nats-io/nkeys": ["packages/os"],
  "@nats-io/obj": ["packages/artifacts"],
  "@nats-io/transport-node": ["packages/os", "packages/queue", "packages/artifacts"],
  "@noble/curves": ["packages/auth"],
  "@noble/hashes": ["packages/auth"],
  hono: ["packages/gateway"],
  jose: ["packages/auth"],
  kysely: ["packages/operations"],
  "oidc-provider": ["packages/gateway"],
  pg: ["packages/operations"],
  "prom-client": ["packages/gateway"],
  "tar-stream": ["packages/artifacts"],
  yaml: ["packages/formfile"],
  zod: [
    "packages/formfile",
    "packages/contract",
    "packages/auth",
    "packages/tools",
    "packages/queue",
    "packages/gateway",
    "packages/assembly",
  ],
  "node:sqlite": ["packages/os", "packages/operations", "packages/queue"],
};

/** What only `test/` and `testing/` folders may import. */
export const TEST_LIBRARIES: readonly string[] = ["vitest", "fast-check", "@modelcontextprotocol/client"];

/** The only package that reads `process.env`. */
export const ENVIRONMENT_READER = "packages/assembly";

/** A package's layer as a number that rises, or undefined if the plan does not know the package. */
export function levelOf(pkg: string): number | undefined {
  const level = LAYERS.findIndex(({ packages }) => packages.includes(pkg));
  return level < 0 ? undefined : level;
}
