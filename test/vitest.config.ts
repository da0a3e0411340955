import { project } from "../vitest.base.ts";

export default project("system", {
  include: ["**/*.test.ts"],
  // Retries for VMs, browsers and servers on a busy host. The summary names each second try: each is a bug to
  // look at.
  retry: 1,
  testTimeout: 240_000,
  hookTimeout: 240_000,
});
