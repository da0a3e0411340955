import { defineProject } from "vitest/config";

export default defineProject({
  resolve: { conditions: ["formation-source"] },
  ssr: { resolve: { conditions: ["formation-source"] } },
  test: {
    name: "gateway",
    include: ["test/**/*.test.ts"],
    environment: "node",
    // The client's own dependencies publish TypeScript under the condition that this repository uses for its packages;
    // inlined, they are compiled like ours.
    server: { deps: { inline: [/@modelcontextprotocol\/client/, /eventsource/] } },
  },
});
