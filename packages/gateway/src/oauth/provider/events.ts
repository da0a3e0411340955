// The events of oidc-provider: what goes to the log and to the audit log, and that a client in use stays
// registered.

import type { EventEmitter } from "node:events";
import type { Clock, Documents, Logger } from "@formation-mcp/contract";
import type { Provider } from "oidc-provider";
import { keepClient } from "./adapter.ts";
import type { OAuthAudit } from "./audit.ts";

export interface EventDeps {
  documents: Documents;
  clock: Clock;
  logger: Logger;
  audit: OAuthAudit;
}

export function listenToEvents(provider: Provider, { documents, clock, logger, audit }: EventDeps): void {
  // Without a listener, Koa prints the errors of connections to stderr.
  const emitter: EventEmitter = provider;
  emitter.on("error", (error: Error) => {
    logger.log("warn", "oauth: a request broke off", { error: error.name });
  });
  provider.on("server_error", (ctx, error) => {
    logger.log("error", "oauth: internal error", {
      path: ctx.path,
      error: error.name,
      message: error.message,
    });
  });
  provider.on("grant.error", (ctx, error) => {
    if (error.error !== "invalid_grant" && error.error !== "invalid_client") return;
    audit.recordRefusal(ctx.path, ctx.method, "unauthenticated", ctx.ip).catch(() => undefined);
  });
  provider.on("grant.revoked", (ctx, grantId) => {
    const { RefreshToken, AccessToken, AuthorizationCode } = ctx.oidc.entities;
    const { accountId: owner, clientId = null } = RefreshToken ?? AuthorizationCode ?? AccessToken ?? {};
    if (!owner) return;
    const action = `POST ${ctx.path} (grant ended)`;
    audit
      .record({ action, owner, credential: grantId, target: clientId, address: ctx.ip })
      .catch((error: Error) =>
        logger.log("error", "The end of a grant could not be stored in the audit log.", {
          error: error.name,
        }),
      );
  });
  provider.on("grant.success", (ctx) => {
    const id = ctx.oidc.client?.clientId;
    if (id) keepClient({ documents, clock }, id).catch(() => undefined);
  });
}
