import { library } from "../../tsup.base.ts";

export default library(["src/index.ts", "src/keys.ts", "src/authority.ts", "src/key-file.ts"]);
