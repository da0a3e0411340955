import type { Options } from "tsup";
import { fastApplication } from "../../tsup.base.ts";

const program = fastApplication({ "formation-mcp": "src/main.ts" });

/** The list of tools is made here, once, instead of at every start. */
const madeListing: NonNullable<typeof program.esbuildPlugins>[number] = {
  name: "made-listing",
  setup(build) {
    build.onLoad({ filter: /packages\/tools\/src\/listing\.ts$/ }, async ({ path }) => {
      const { outputFiles } = await build.esbuild.build({
        entryPoints: [path],
        bundle: true,
        format: "esm",
        platform: "node",
        conditions: ["formation-source"],
        write: false,
      });
      const text = Buffer.from(outputFiles[0]?.contents ?? []).toString("base64");
      const { LISTING } = (await import(`data:text/javascript;base64,${text}`)) as { LISTING: unknown };
      const json = JSON.stringify(JSON.stringify(LISTING));
      return { contents: `export const LISTING = JSON.parse(${json});`, loader: "js" };
    });
  },
};

const options: Options = { ...program, esbuildPlugins: [...(program.esbuildPlugins ?? []), madeListing] };

export default options;
