import type { Options } from "tsup";
import { fastApplication } from "../../tsup.base.ts";

const options: Options = fastApplication({ "formation-mcp-http": "src/main.ts" });

export default options;
