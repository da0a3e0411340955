import { application } from "../../tsup.base.ts";

export default application({ "formation-mcp": "src/main.ts" });
