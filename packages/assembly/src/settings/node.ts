// The settings of a node's worker daemon: its name and labels, its health port, and how long it drains.

import { hostname } from "node:os";
import { checkLabels } from "@formation-mcp/contract";
import { z } from "zod";
import { computed, hostAndPort, optional, seconds, splitAt, withDefault } from "./kinds.ts";
import type { Section, Values } from "./setting.ts";

const NODE_NAME = /^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/;

const labels = () =>
  splitAt(/[\s,]+/).transform((pairs, context) => {
    const wrong = pairs.find((pair) => !pair.includes("="));
    try {
      if (wrong !== undefined) throw new Error(`write key=value instead of ${JSON.stringify(wrong)}`);
      const entries = pairs.map((pair) => {
        const at = pair.indexOf("=");
        return [pair.slice(0, at), pair.slice(at + 1)] as const;
      });
      return checkLabels(Object.fromEntries(entries));
    } catch (error) {
      context.addIssue({ code: "custom", message: (error as Error).message });
      return z.NEVER;
    }
  });

const settings = {
  node: {
    name: {
      name: "FORMATION_NODE_NAME",
      help: "the name of this node",
      ...computed(
        () => z.string().regex(NODE_NAME, "write letters, digits, dots and hyphens, at most 63"),
        "the host's name",
        () => hostname(),
      ),
    },
    labels: {
      name: "FORMATION_NODE_LABELS",
      help: "what placement may ask for, k=v, separated by ','",
      ...withDefault(labels, {}, "none"),
    },
  },
  health: {
    name: "FORMATION_HEALTH_ADDRESS",
    help: "host:port where /health/live, /health/ready and /metrics are served",
    ...optional(hostAndPort, "nowhere"),
  },
  drainMs: {
    name: "FORMATION_DRAIN_SECONDS",
    help: "how long running operations may go on when the worker is told to leave",
    ...seconds({ min: 0, max: 86_400, default: 60 }),
  },
};

export const NODE = {
  title: "the node",
  programs: ["formation-mcp-worker"],
  inFile: true,
  settings,
} as const satisfies Section;

export type NodeSettings = Values<typeof settings>;
