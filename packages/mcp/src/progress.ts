// Progress notifications of a call: how an operation's steps become the rising number that MCP asks for.

import type { CallHooks } from "@formation-mcp/control";
import type { ServerContext } from "@modelcontextprotocol/server";

const MAX_MESSAGE_LENGTH = 300;

/**
 * The `onProgress` hook for a client that sent a progress token, or no hook.
 * MCP requires that `progress` increases with every notification, even when the operation cannot say how far
 * it is. Such a notification, and one that would go back, adds a hundredth of what is left. `total` is always
 * 100.
 */
export function progressHook(ctx: ServerContext): Pick<CallHooks, "onProgress"> {
  const progressToken = ctx.mcpReq._meta?.progressToken;
  if (progressToken === undefined) return {};
  let last = 0;
  return {
    onProgress: ({ step, message, fraction }) => {
      const wanted = fraction === null ? 0 : Math.min(fraction, 0.99) * 100;
      last = wanted > last ? wanted : last + (100 - last) / 100;
      const text = message.startsWith(step) ? message : `${step}: ${message}`;
      ctx.mcpReq
        .notify({
          method: "notifications/progress",
          params: { progressToken, progress: last, total: 100, message: text.slice(0, MAX_MESSAGE_LENGTH) },
        })
        .catch(() => undefined);
    },
  };
}
