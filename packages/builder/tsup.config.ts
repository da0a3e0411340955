import { library } from "../../tsup.base.ts";

export default library([
  "src/index.ts",
  "src/buildah.ts",
  "src/fake.ts",
  "src/internal.ts",
  "src/testing.ts",
  "src/conformance.ts",
]);
