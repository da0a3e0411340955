// Two commands of a server's operator, with a running server or without one: verify the audit log, and make a
// new bootstrap token. This folder knows the commands that are run once by a person.

import { createAuthority } from "@formation-mcp/auth/authority";
import type { Logger } from "@formation-mcp/contract";
import { type AuditVerdict, verifyAudit } from "@formation-mcp/control";
import { openBackends, serverBackends } from "../open/backends.ts";
import { openLayout } from "../open/layout.ts";
import { masterKeyOf } from "../open/secret-file.ts";
import { requireStore } from "../open/target.ts";
import type { HttpConfiguration } from "../settings/http-configuration.ts";

export type { AuditVerdict };

/**
 * Reads the whole audit log and verifies its hash chains.
 * @throws FormationError `not_found` if the state directory has no records.
 */
export async function auditVerdict(configuration: HttpConfiguration, logger: Logger): Promise<AuditVerdict> {
  requireStore(configuration);
  const backends = await openBackends(
    serverBackends(configuration, openLayout(configuration.stateDir), logger),
  );
  try {
    return await verifyAudit(backends.store.audit);
  } finally {
    await backends.close();
  }
}

/**
 * A new one-time token that makes the next key admin, or null if there is an account. It voids the token
 * before it.
 */
export async function newBootstrapToken(
  configuration: HttpConfiguration,
  publicUrl: string,
  logger: Logger,
): Promise<string | null> {
  const layout = openLayout(configuration.stateDir);
  const backends = await openBackends(serverBackends(configuration, layout, logger));
  try {
    const authority = createAuthority({
      documents: backends.store.documents,
      issuer: publicUrl,
      audience: `${publicUrl}/mcp`,
      masterKey: masterKeyOf(layout, configuration.masterKeyFile),
      logger,
    });
    return await authority.bootstrapToken();
  } finally {
    await backends.close();
  }
}
