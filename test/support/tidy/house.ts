// The plan of the house as tidy enforces it: which room stands on which floor, and where each dependency
// lives.

/**
 * From the ground up. A room imports from lower floors alone. ARCHITECTURE.md has the same table and must
 * agree.
 */
export const FLOORS: readonly { floor: string; rooms: readonly string[] }[] = [
  { floor: "F0", rooms: ["packages/base"] },
  { floor: "F1", rooms: ["packages/formfile"] },
  { floor: "F2", rooms: ["packages/contract"] },
  { floor: "F3", rooms: ["packages/os"] },
  {
    floor: "F4",
    rooms: [
      "packages/auth",
      "packages/tools",
      "packages/queue",
      "packages/operations",
      "packages/artifacts",
      "packages/builder",
      "packages/hypervisor",
    ],
  },
  { floor: "F5", rooms: ["packages/control", "packages/pack-manager", "packages/client"] },
  { floor: "F6", rooms: ["packages/mcp"] },
  { floor: "F7", rooms: ["packages/gateway"] },
  { floor: "F8", rooms: ["packages/assembly"] },
  { floor: "F9", rooms: ["apps/stdio", "apps/http", "apps/worker", "apps/console"] },
];

/**
 * The rooms that may import a dependency: one home for each, but for zod, which describes data at every
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

/** The only room that reads `process.env`. */
export const ENVIRONMENT_READER = "packages/assembly";

/** A room's floor as a number that rises, or undefined if the plan does not know the room. */
export function levelOf(room: string): number | undefined {
  const level = FLOORS.findIndex(({ rooms }) => rooms.includes(room));
  return level < 0 ? undefined : level;
}
