import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describeBuilder } from "@formation-mcp/builder/testing/conformance";
import { open } from "./support/open-fake.ts";

describeBuilder("fake", {
  open,
  opener: new URL("./support/open-fake.ts", import.meta.url).href,
  bounds: [],
  async read(disk, path) {
    try {
      const { rootfs } = JSON.parse(readFileSync(disk, "utf8")) as { rootfs: string };
      return readFileSync(join(rootfs, path), "utf8");
    } catch {
      return null;
    }
  },
  leftovers: async (stateDir) => readdirSync(join(stateDir, "builds")),
});
