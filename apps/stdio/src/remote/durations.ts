// Durations as people write them: 30s, 10m, 12h, 30d.

import { FormationError } from "@formation-mcp/contract";

const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** The duration in seconds. @throws FormationError `invalid` */
export function parseDuration(text: string, field: string): number {
  const [, count, unit = ""] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const seconds = Number(count) * (SECONDS[unit] ?? Number.NaN);
  if (seconds > 0) return seconds;
  throw new FormationError("invalid", `${field}: ${JSON.stringify(text.slice(0, 40))} is no span of time.`, {
    field,
    remedy: "Write it as 30d, 12h, 10m or 45s.",
  });
}
