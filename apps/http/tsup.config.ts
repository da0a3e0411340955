import { fastApplication } from "../../tsup.base.ts";

export default fastApplication({ "formation-mcp-http": "src/main.ts" });
