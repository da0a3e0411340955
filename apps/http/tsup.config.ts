import { application } from "../../tsup.base.ts";

export default application({ "formation-mcp-http": "src/main.ts" });
