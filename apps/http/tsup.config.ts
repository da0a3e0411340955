import type { Options } from "tsup";
import { fastApplication } from "../../tsup.base.ts";

/** oidc-provider stores what a record is under the names of its classes: minified, they would change with every build. */
const options: Options = { ...fastApplication({ "formation-mcp-http": "src/main.ts" }), keepNames: true };

export default options;
