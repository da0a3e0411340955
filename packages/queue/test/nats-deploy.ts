// What an operator sets up once: the configurations of deploy/nats with users and keys, and certificates of a
// private authority, in a directory of the test.

import { execFileSync } from "node:child_process";
import { cpSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createNatsKey } from "@formation-mcp/os/nats";
import { type NatsRole, natsUser } from "@formation-mcp/queue/nats";

const DEPLOY = join(import.meta.dirname, "../../../deploy/nats");

/** Copies the configurations and makes a key for each name. */
export function deploy(directory: string, users: Record<string, NatsRole>): void {
  cpSync(DEPLOY, directory, { recursive: true });
  for (const role of ["server", "worker"]) {
    const entries = Object.entries(users)
      .filter(([, who]) => who.role === role)
      .map(([name, who]) => natsUser(createNatsKey(keyOf(directory, name)), who));
    writeFileSync(join(directory, `${role}s.conf`), `users: [\n${entries.join(",\n")}]\n`);
  }
}

/** The path of a user's key. */
export function keyOf(directory: string, name: string): string {
  return join(directory, `${name}.nk`);
}

/** Makes an authority (ca.pem) and a certificate signed by it for each name. */
export function certify(directory: string, authority: string, names: string[]): void {
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: directory, stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const own = [
    "-days",
    "2",
    "-subj",
    `/CN=${authority}`,
    "-keyout",
    `${authority}.key`,
    "-out",
    `${authority}.pem`,
  ];
  openssl("req", "-x509", ...key, ...own);
  writeFileSync(join(directory, "san.cnf"), "subjectAltName=IP:127.0.0.1\n");
  for (const name of names) {
    openssl("req", ...key, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
    const by = ["-CA", `${authority}.pem`, "-CAkey", `${authority}.key`, "-CAcreateserial", "-days", "2"];
    openssl("x509", "-req", "-in", `${name}.csr`, ...by, "-extfile", "san.cnf", "-out", `${name}.pem`);
  }
}
