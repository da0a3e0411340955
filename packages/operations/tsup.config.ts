import { library } from "../../tsup.base.ts";

const options: ReturnType<typeof library> = {
  ...library(["src/index.ts", "src/sqlite.ts", "src/conformance.ts"]),
  // The suite is for those who test a driver and have these.
  external: ["vitest", "fast-check"],
};

export default options;
