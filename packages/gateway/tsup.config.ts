import { library } from "../../tsup.base.ts";

export default library(["src/index.ts", "src/mcp.ts", "src/stdio.ts", "src/http.ts", "src/oauth.ts"]);
