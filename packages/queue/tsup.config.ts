import { library } from "../../tsup.base.ts";

export default library([
  "src/index.ts",
  "src/embedded.ts",
  "src/nats.ts",
  "src/conformance.ts",
  // Started as a process of its own by the conformance suite.
  "src/conformance-child.ts",
]);
