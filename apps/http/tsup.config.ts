import type { Options } from "tsup";
import { fastApplication } from "../../tsup.base.ts";

/** oidc-provider stores the names of its classes in records; minified names would change with every build. */
const options: Options = { ...fastApplication({ "formation-mcp-http": "src/main.ts" }), keepNames: true };

export default options;
