import { library } from "../../tsup.base.ts";

export default library(["src/index.ts", "src/nats.ts", "src/sqlite.ts"]);
