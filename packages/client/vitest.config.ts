import { project } from "../../vitest.base.ts";

export default project("client", {
  // Machines, browsers and servers on a busy host. The summary names each second try: it is a bug to look at.
  retry: 1,
});
