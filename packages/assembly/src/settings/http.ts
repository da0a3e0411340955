// The settings of the HTTP server: where it listens, who may use it, quotas and request rates.

import { LIMITS } from "@formation-mcp/contract";
import { LISTING } from "@formation-mcp/tools/listing";
import { z } from "zod";
import {
  flag,
  limit,
  list,
  listenAddress,
  networks,
  optional,
  origin,
  seconds,
  text,
  whole,
  withDefault,
} from "./kinds.ts";
import type { Section, Values } from "./setting.ts";

const HOST_NAME = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})$/;
const tools = () => z.array(z.enum(LISTING.map(({ name }) => name)));
const rate = (usual: number) => whole({ min: 0, max: 1e9, default: usual });

const settings = {
  masterKeyFile: {
    name: "FORMATION_MASTER_KEY_FILE",
    help: "32 random bytes that all servers of one database share",
    ...optional(text, "made in the state directory"),
  },
  host: {
    name: "FORMATION_HTTP_HOST",
    help: "the address to listen on",
    ...withDefault(listenAddress, "127.0.0.1"),
  },
  port: {
    name: "FORMATION_HTTP_PORT",
    help: "the port to listen on; 0 is any",
    ...whole({ min: 0, max: 65_535, default: 3010 }),
  },
  publicUrl: {
    name: "FORMATION_PUBLIC_URL",
    help: "the server's origin as clients know it, https://vm.example.org",
    ...optional(origin, "where it listens"),
  },
  tls: {
    cert: {
      name: "FORMATION_TLS_CERT",
      help: "certificate chain in PEM; with FORMATION_TLS_KEY the server speaks TLS itself",
      ...optional(text),
    },
    key: {
      name: "FORMATION_TLS_KEY",
      help: "the certificate's key in PEM",
      ...optional(text),
    },
  },
  trustedProxies: {
    name: "FORMATION_TRUSTED_PROXIES",
    help: "networks of proxies whose X-Forwarded-* count, separated by ','",
    ...list(networks, "none"),
  },
  metricsFrom: {
    name: "FORMATION_METRICS_FROM",
    help: "networks that may read /metrics directly without an admin's token, separated by ','",
    ...list(networks, "none"),
  },
  plainHttp: {
    name: "FORMATION_PLAIN_HTTP",
    help: "yes: serve plain HTTP beyond this machine without a proxy",
    ...flag(),
  },
  allowedHosts: {
    name: "FORMATION_ALLOWED_HOSTS",
    help: "more names that clients may use for this server, separated by ','",
    ...list(() => z.array(z.string().regex(HOST_NAME, "write a host name without a port"))),
  },
  corsOrigins: {
    name: "FORMATION_CORS_ORIGINS",
    help: "origins of web pages that may use this server, separated by ','",
    ...list(() => z.array(origin()), "none"),
  },
  openRegistration: {
    name: "FORMATION_OPEN_REGISTRATION",
    help: "yes: anyone with a key may open an account",
    ...flag(),
  },
  oauthClients: {
    privateHosts: {
      name: "FORMATION_CLIENT_HOSTS",
      help: "host:port of machines with private addresses where OAuth clients' metadata may be read, separated by ','",
      ...list(() => z.array(z.string().regex(/^[A-Za-z0-9.:[\]-]+:\d{1,5}$/, "write host:port"))),
    },
    caFile: {
      name: "FORMATION_CLIENT_CA",
      help: "certificates in PEM of the authority that signed theirs",
      ...optional(text),
    },
  },
  readOnly: {
    name: "FORMATION_READ_ONLY",
    help: "yes: only tools that change nothing, for all users",
    ...flag(),
  },
  allowTools: {
    name: "FORMATION_ALLOW_TOOLS",
    help: "only these tools, for all users, separated by ','",
    ...list(tools),
  },
  denyTools: {
    name: "FORMATION_DENY_TOOLS",
    help: "tools that no user may use, separated by ','",
    ...list(tools),
  },
  quota: {
    vcpus: {
      name: "FORMATION_QUOTA_VCPUS",
      help: "vCPUs that one account may have; none is no limit",
      ...limit(8),
    },
    memory_mb: {
      name: "FORMATION_QUOTA_MEMORY_MB",
      help: "memory that one account's VMs may have",
      ...limit(16_384),
    },
    disk_gb: {
      name: "FORMATION_QUOTA_DISK_GB",
      help: "disk that one account's VMs may have",
      ...limit(100),
    },
    instances: {
      name: "FORMATION_QUOTA_INSTANCES",
      help: "VMs that one account may have",
      ...limit(10),
    },
    builds: {
      name: "FORMATION_QUOTA_BUILDS",
      help: "builds of one account at the same time",
      ...limit(3),
    },
    operations_per_minute: {
      name: "FORMATION_QUOTA_OPERATIONS_PER_MINUTE",
      help: "operations that one account may begin a minute",
      ...limit(60),
    },
  },
  rates: {
    address: {
      name: "FORMATION_RATE_ADDRESS",
      help: "requests of one address a minute; 0 is no limit",
      ...rate(LIMITS.requestsPerMinute.address),
    },
    owner: {
      name: "FORMATION_RATE_OWNER",
      help: "requests of one account a minute",
      ...rate(LIMITS.requestsPerMinute.owner),
    },
    signIn: {
      name: "FORMATION_RATE_SIGN_IN",
      help: "sign-ins, registrations and token requests of one address a minute",
      ...rate(LIMITS.requestsPerMinute.signIn),
    },
    failure: {
      name: "FORMATION_RATE_FAILURE",
      help: "refused tokens of one address a minute",
      ...rate(LIMITS.requestsPerMinute.failure),
    },
  },
  connections: {
    name: "FORMATION_HTTP_CONNECTIONS",
    help: "connections at the same time",
    ...whole({ min: 1, max: 1_000_000, default: 1024 }),
  },
  headTimeoutMs: {
    name: "FORMATION_HTTP_PATIENCE_SECONDS",
    help: "how long a client may take to send a request's head, or the next 16 KiB of an upload; twice as long for another body, or between two requests",
    ...seconds({ min: 0.1, max: 3600, default: 15 }),
  },
};

export const HTTP = {
  title: "the HTTP server",
  programs: ["formation-mcp-http"],
  inFile: true,
  settings,
} as const satisfies Section;

export type HttpSettings = Values<typeof settings>;
