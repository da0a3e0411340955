// The tools about nodes, the machines that run workers. For admins only.

import { z } from "zod";
import * as f from "./shared-fields.ts";
import { READS, type Tool } from "./tool.ts";

export const nodeList = {
  name: "node_list",
  title: "List nodes",
  description:
    "Lists the machines that build and run: state, labels, capacity, what is used, engines. Only admins can; cordon, drain and remove are REST's, below /api/nodes.",
  input: z.strictObject({ limit: f.limit, cursor: f.cursor }),
  output: z.object({ nodes: z.array(f.object), cursor: z.string().nullable() }),
  scope: "admin",
  annotations: READS,
} as const satisfies Tool;
