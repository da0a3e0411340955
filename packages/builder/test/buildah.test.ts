// @module-tag buildah

import { describeBuilder } from "@formation-mcp/builder/testing/conformance";
import { open } from "./support/open-buildah.ts";
import { leftoversOf, readDisk } from "./support/real-disk.ts";

describeBuilder("buildah", {
  open,
  opener: new URL("./support/open-buildah.ts", import.meta.url).href,
  bounds: ["pids", "memory"],
  read: readDisk,
  leftovers: leftoversOf,
});
