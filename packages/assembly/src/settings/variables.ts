// Every setting that there is: a variable and, in a line, what it sets, as `--help` shows it. What is called almost like one of them
// is a mistake, whichever program reads it.

import { nearestName } from "@formation-mcp/base";

/** Of every program that works on this machine. */
export const VARIABLES = {
  FORMATION_STATE_DIR: "where everything is kept (default: $XDG_STATE_HOME/formation-mcp)",
  FORMATION_ALLOW_DIR:
    "directories that context_dir may name, separated by ':' (default: the working directory)",
  FORMATION_BIND_ADDRESS: "the address that VMs' ports are forwarded to (default: 127.0.0.1)",
  FORMATION_ACCELERATOR: "auto, kvm or tcg (default: auto)",
  FORMATION_KERNEL:
    "a Linux kernel image for VMs instead of the downloaded one; needs FORMATION_KERNEL_MODULES",
  FORMATION_KERNEL_MODULES: "that kernel's modules directory (…/lib/modules/<version>)",
  FORMATION_BUILD_NETWORK: "internet or none, for RUN lines (default: internet)",
  FORMATION_VM_EGRESS: "internet or none, for VMs (default: internet, where it can be filtered)",
  FORMATION_ALLOW_CIDRS: "networks that builds and VMs may reach though they are private, separated by ','",
  FORMATION_DENY_CIDRS: "more networks that builds and VMs may not reach, separated by ','",
  FORMATION_PLAIN_HTTP_REGISTRIES:
    "registries (host:port) that may be read over plain HTTP, separated by ','",
  REGISTRY_AUTH_FILE: "credentials for private registries, as containers-auth.json(5)",
  FORMATION_OPERATION_KEPT_SECONDS: "how long an operation is kept after it ended (default: 3600)",
  FORMATION_SWEEP_SECONDS: "how often the sweep runs (default: 300)",
  FORMATION_UNUSED_BUILD_SECONDS: "how long an unused build is kept (default: 604800)",
  FORMATION_CACHE_GB: "disk budget of the build and disk caches (default: 20)",
  FORMATION_BUILD_SECONDS: "how long a build may take (default: 1800)",
  FORMATION_BUILD_MEMORY_MB: "memory a build may take (default: 2048, or a third of what there is)",
  FORMATION_BUILD_DISK_MB: "disk a build may add (default: 20480)",
  FORMATION_BOOT_SECONDS: "how long a VM may take until it is live (default: 300)",
  FORMATION_WORKER:
    "auto: start the background worker of this machine when needed; none: others work (default: auto, with a database or NATS that is shared: none)",
  FORMATION_IDLE_SECONDS: "how long the background worker stays when idle (default: 300)",
  FORMATION_VCPUS: "vCPUs this node offers (default: 8 per core)",
  FORMATION_MEMORY_MB: "memory this node offers (default: 80 % of what it has)",
  FORMATION_DISK_GB: "disk this node offers (default: what is free)",
  FORMATION_LEASE_SECONDS:
    "how long what a worker runs is its own without being renewed; a node is taken for dead after three of them; the same for all workers (default: 30)",
  FORMATION_POLL_SECONDS:
    "how often a worker asks for work though nothing woke it, in case a wake-up was lost (default: 5)",
  FORMATION_DRIVERS: "real or fake: fake runs workloads as plain child processes, for tests (default: real)",
  FORMATION_FAKE_STEP_SECONDS: "how long each thing that the fake drivers do takes at least (default: 0)",
  FORMATION_LOG_LEVEL: "debug, info, warn or error (default: info)",
} as const;

/** Of what several machines share. */
export const SHARED_VARIABLES = {
  FORMATION_DATABASE_URL:
    "postgres://user@host:5432/database for the records (default: SQLite in the state directory)",
  FORMATION_DATABASE_PASSWORD_FILE: "the database user's password, if it does not stand in the URL",
  FORMATION_DATABASE_POOL: "connections to the database at the same time (default: 10)",
  FORMATION_NATS_URL:
    "nats://host:4222 or tls://…, more separated by ',', for wake-ups, events, contexts, images and logs (default: the state directory)",
  FORMATION_NATS_CREDS: "a creds file for NATS, as nsc writes it",
  FORMATION_NATS_NKEY: "a seed file for NATS, as nk writes it",
  FORMATION_NATS_CA: "certificates in PEM of the authority that signed the NATS servers'",
  FORMATION_NATS_CERT: "our certificate for NATS in PEM; with FORMATION_NATS_KEY",
  FORMATION_NATS_KEY: "its key in PEM",
  FORMATION_NATS_REPLICAS: "copies of everything that NATS stores, 1, 3 or 5 (default: 1)",
  FORMATION_MASTER_KEY_FILE:
    "32 random bytes that all servers of one database share (default: one made in the state directory)",
} as const;

/** Of the HTTP server. */
export const HTTP_VARIABLES = {
  FORMATION_HTTP_HOST: "the address to listen on (default: 127.0.0.1)",
  FORMATION_HTTP_PORT: "the port to listen on; 0 is any (default: 3010)",
  FORMATION_PUBLIC_URL:
    "the server's origin as clients know it, https://vm.example.org (default: where it listens)",
  FORMATION_TLS_CERT: "certificate chain in PEM; with FORMATION_TLS_KEY the server speaks TLS itself",
  FORMATION_TLS_KEY: "the certificate's key in PEM",
  FORMATION_TRUSTED_PROXIES:
    "networks of proxies whose X-Forwarded-* count, separated by ',' (default: none)",
  FORMATION_METRICS_FROM:
    "networks that may read /metrics directly without an admin's token, separated by ',' (default: none)",
  FORMATION_PLAIN_HTTP: "yes: serve plain HTTP beyond this machine without a proxy (default: no)",
  FORMATION_ALLOWED_HOSTS: "more names that clients may use for this server, separated by ','",
  FORMATION_CORS_ORIGINS: "origins of web pages that may use this server, separated by ',' (default: none)",
  FORMATION_OPEN_REGISTRATION: "yes: whoever has a key may open an account (default: no)",
  FORMATION_CLIENT_HOSTS:
    "host:port of machines with private addresses where OAuth clients' metadata may be read, separated by ','",
  FORMATION_CLIENT_CA: "certificates in PEM of the authority that signed theirs",
  FORMATION_READ_ONLY: "yes: only tools that change nothing, for everybody (default: no)",
  FORMATION_ALLOW_TOOLS: "only these tools, for everybody, separated by ','",
  FORMATION_DENY_TOOLS: "not these tools, for anybody, separated by ','",
  FORMATION_QUOTA_VCPUS: "vCPUs that one account may have (default: 8; none is no limit)",
  FORMATION_QUOTA_MEMORY_MB: "memory that one account's VMs may have (default: 16384)",
  FORMATION_QUOTA_DISK_GB: "disk that one account's VMs may have (default: 100)",
  FORMATION_QUOTA_INSTANCES: "VMs that one account may have (default: 10)",
  FORMATION_QUOTA_BUILDS: "builds of one account at the same time (default: 3)",
  FORMATION_QUOTA_OPERATIONS_PER_MINUTE: "operations that one account may begin a minute (default: 60)",
  FORMATION_RATE_ADDRESS: "requests of one address a minute; 0 is no limit (default: 3000)",
  FORMATION_RATE_OWNER: "requests of one account a minute (default: 1800)",
  FORMATION_RATE_SIGN_IN: "sign-ins, registrations and token requests of one address a minute (default: 60)",
  FORMATION_RATE_FAILURE: "refused tokens of one address a minute (default: 60)",
  FORMATION_HTTP_CONNECTIONS: "connections at the same time (default: 1024)",
  FORMATION_HTTP_PATIENCE_SECONDS:
    "how long a client may take to send a request's head, or the next 16 KiB of an upload; twice as long for another body, or between two requests (default: 15)",
} as const;

/** Of a node's worker. */
export const WORKER_VARIABLES = {
  FORMATION_NODE_NAME: "what this node is called (default: the host's name)",
  FORMATION_NODE_LABELS: "what placement may ask for, k=v, separated by ',' (default: none)",
  FORMATION_HEALTH_ADDRESS:
    "host:port where /health/live, /health/ready and /metrics are served (default: nowhere)",
  FORMATION_DRAIN_SECONDS: "how long what runs may go on when the worker is told to leave (default: 60)",
} as const;

/** Of who uses a server from elsewhere. */
export const REMOTE_VARIABLES = {
  FORMATION_URL: "a server to use instead of this machine, https://vm.example.org",
  FORMATION_KEY_FILE: "the key that signs in there (default: $XDG_CONFIG_HOME/formation-mcp/key.json)",
  FORMATION_KEY_PASSPHRASE: "opens the key file if it is sealed (default: asked for on the terminal)",
  FORMATION_TOKEN: "an API token of the server, instead of a key",
  FORMATION_ALLOW_HTTP: "yes: send tokens over plain HTTP beyond this machine too (default: no)",
} as const;

/** What our own processes, tests and `deploy/` call something so that is no setting. */
const OURS = /^FORMATION_(STATE|FAKE_BUILD|SEED|(SERVER|WORKER)_PASSWORD|(\w+_)?TEST_\w+)$/;
const KNOWN: readonly string[] = [
  VARIABLES,
  SHARED_VARIABLES,
  HTTP_VARIABLES,
  WORKER_VARIABLES,
  REMOTE_VARIABLES,
].flatMap((table) => Object.keys(table));
/** A name with at most so many edits from a known one is that one, misspelt. */
const MAX_EDITS = 2;

/**
 * The variables that begin as ours do and are none: `misspelt` is one problem a line for those that are nearly one of ours,
 * `strange` names the others, which may be anybody's, as those that Kubernetes sets for a service of our name.
 */
export function unknownVariables(environment: Record<string, string | undefined>): {
  misspelt: string[];
  strange: string[];
} {
  const unknown = Object.keys(environment).filter(
    (name) => name.startsWith("FORMATION_") && !KNOWN.includes(name) && !OURS.test(name),
  );
  const meant = unknown.map((name) => {
    const similar = KNOWN.filter((known) => Math.abs(known.length - name.length) <= MAX_EDITS);
    const nearest = nearestName(name, similar);
    return [name, nearest && nearest.distance <= MAX_EDITS ? nearest.name : undefined] as const;
  });
  return {
    misspelt: meant.flatMap(([name, known]) =>
      known === undefined ? [] : [`${name}: there is no such setting; write ${known}`],
    ),
    strange: meant.flatMap(([name, known]) => (known === undefined ? [name] : [])),
  };
}
