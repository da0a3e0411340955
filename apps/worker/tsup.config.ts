import { application } from "../../tsup.base.ts";

export default application({ "formation-mcp-worker": "src/main.ts" });
