import { library } from "../../tsup.base.ts";

export default library([
  "src/index.ts",
  "src/http.ts",
  "src/settings.ts",
  "src/worker.ts",
  "src/daemon.ts",
  "src/doctor.ts",
  "src/purge.ts",
]);
