// Finds what the machines of a state directory left on the host: firewall chains, rules, cgroups.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, realpathSync } from "node:fs";

export function leftovers(stateDir: string): string[] {
  const short = createHash("sha256").update(realpathSync(stateDir)).digest("hex").slice(0, 8);
  const rules = ["iptables-save", "ip6tables-save"].flatMap((tool) =>
    execFileSync(tool, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] })
      .split("\n")
      .filter((line) => line.includes(`FM-${short}`)),
  );
  const groups = ["/sys/fs/cgroup", ...readdirSync("/sys/fs/cgroup").map((name) => `/sys/fs/cgroup/${name}`)]
    .map((parent) => `${parent}/formation-${short}`)
    .filter((path) => existsSync(path));
  return [...rules, ...groups];
}
