// The cluster of the example as tests start it: silent; with FORMATION_TEST_SOURCE=1 from the sources, which
// need no build.

import { join } from "node:path";
import {
  BUNDLES,
  type Cluster,
  type ClusterOptions,
  type Programs,
  startCluster,
} from "../../examples/cluster/ground.ts";
import { ROOT } from "./server.ts";

export type { Cluster } from "../../examples/cluster/ground.ts";

const source = (app: string) => [
  process.execPath,
  "--conditions=formation-source",
  join(ROOT, "apps", app, "src/main.ts"),
];

export const PROGRAMS: Programs =
  process.env["FORMATION_TEST_SOURCE"] === "1"
    ? { http: source("http"), worker: source("worker"), local: source("stdio") }
    : BUNDLES;

/** Two servers and two workers, with rate limits that tests do not reach. */
export function testCluster(options: Partial<ClusterOptions> = {}): Promise<Cluster> {
  const rates = ["ADDRESS", "OWNER", "SIGN_IN", "FAILURE"].map((name) => [`FORMATION_RATE_${name}`, "0"]);
  return startCluster({
    say: () => {},
    servers: 2,
    workers: 2,
    drivers: "fake",
    programs: PROGRAMS,
    ...options,
    env: {
      ...Object.fromEntries(rates),
      FORMATION_QUOTA_OPERATIONS_PER_MINUTE: "none",
      FORMATION_QUOTA_BUILDS: "none",
      ...options.env,
    },
  });
}
