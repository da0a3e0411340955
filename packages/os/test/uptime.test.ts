import { uptime } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { uptimeMs } from "@formation-mcp/os";
import { expect, it } from "vitest";

it("the host's clock goes on, at the pace of seconds, and never back", async () => {
  const begin = uptimeMs();
  expect(Math.abs(begin - uptime() * 1000)).toBeLessThan(1000);
  await delay(50);
  const later = uptimeMs();
  expect(later - begin).toBeGreaterThanOrEqual(30);
  expect(uptimeMs()).toBeGreaterThanOrEqual(later);
});
