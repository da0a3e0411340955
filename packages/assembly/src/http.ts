// The HTTP server: its settings, its system, and the operator's commands beside it.

export { isOAuthPath } from "@formation-mcp/gateway/oauth";
export { type AuditVerdict, auditVerdict, newBootstrapToken } from "./commands/audit-and-bootstrap.ts";
export { exportAll, importAll, type TransferCounts } from "./commands/export-import.ts";
export { migrate } from "./commands/migrate.ts";
export { serverNatsUser } from "./commands/nats-user.ts";
export { describeTarget, hasStore } from "./open/target.ts";
export { type HttpServer, type HttpServerOptions, openHttpServer } from "./process/http-server.ts";
export { createServiceManager, type ServiceManager } from "./process/service-manager.ts";
export { type HttpConfiguration, readHttpConfiguration } from "./settings/http-configuration.ts";
