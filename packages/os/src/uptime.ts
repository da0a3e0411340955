// The clock that two processes of one host share and nobody sets: what both must agree on ends by it, not by the date.

import { readFileSync } from "node:fs";

/** Milliseconds since this host booted, the time it slept included, in steps of 10. See proc(5), /proc/uptime. */
export function uptimeMs(): number {
  return Math.round(Number.parseFloat(readFileSync("/proc/uptime", "latin1")) * 1000);
}
