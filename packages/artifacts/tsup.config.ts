import { library } from "../../tsup.base.ts";

export default library(["src/index.ts", "src/directory.ts", "src/nats.ts", "src/context.ts"]);
