// The host's monotonic clock. All processes of a host share it and setting the date does not change it, so
// leases use it.

import { readFileSync } from "node:fs";

/** Milliseconds since the host booted, including suspend, in steps of 10 (proc(5), /proc/uptime). */
export function uptimeMs(): number {
  return Math.round(Number.parseFloat(readFileSync("/proc/uptime", "latin1")) * 1000);
}
