import { project } from "../../vitest.base.ts";

export default project("pack-manager", {
  // Generous, because they run beside builds and machines: nothing here waits longer than it must.
  expect: { poll: { timeout: 15_000, interval: 20 } },
});
