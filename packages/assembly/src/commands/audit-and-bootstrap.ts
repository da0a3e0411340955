// What an operator does beside a running server, or without one: look whether the audit log is whole, and get in again.

import { createAuthority } from "@formation-mcp/auth/authority";
import type { Logger } from "@formation-mcp/contract";
import { type AuditVerdict, verifyAudit } from "@formation-mcp/control";
import { openLayout } from "../open/layout.ts";
import { openRecords, serverRecords } from "../open/records.ts";
import { masterKeyOf } from "../open/secret-file.ts";
import { requireStore } from "../open/target.ts";
import type { HttpConfiguration } from "../settings/http-configuration.ts";

export type { AuditVerdict };

/**
 * Reads the whole audit log.
 * @throws FormationError `not_found` where nothing was ever kept.
 */
export async function auditVerdict(configuration: HttpConfiguration, logger: Logger): Promise<AuditVerdict> {
  requireStore(configuration);
  const records = await openRecords(serverRecords(configuration, openLayout(configuration.stateDir), logger));
  try {
    return await verifyAudit(records.store.audit);
  } finally {
    await records.close();
  }
}

/** A new one-time token that makes the next key admin, or null if there is an account already. The one before it is void. */
export async function newBootstrapToken(
  configuration: HttpConfiguration,
  publicUrl: string,
  logger: Logger,
): Promise<string | null> {
  const layout = openLayout(configuration.stateDir);
  const records = await openRecords(serverRecords(configuration, layout, logger));
  try {
    const authority = createAuthority({
      documents: records.store.documents,
      issuer: publicUrl,
      audience: `${publicUrl}/mcp`,
      masterKey: masterKeyOf(layout, configuration.shared.masterKeyFile),
      logger,
    });
    return await authority.bootstrapToken();
  } finally {
    await records.close();
  }
}
