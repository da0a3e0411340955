import { execFileSync } from "node:child_process";
import { readFileSync, renameSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { waitFor } from "@formation-mcp/os";
import { expect, test } from "vitest";
import { start, temporary } from "./program.ts";

/** A certificate of its own for this machine. */
function certificate(dir: string, name: string): { cert: string; key: string } {
  const [cert, key] = [join(dir, `${name}.pem`), join(dir, `${name}.key`)];
  execFileSync(
    "openssl",
    ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"].concat([
      "-subj",
      `/CN=${name}`,
      "-addext",
      "subjectAltName=IP:127.0.0.1",
      "-keyout",
      key,
      "-out",
      cert,
    ]),
    { stdio: "ignore" },
  );
  return { cert, key };
}

/** Asks over TLS, trusting one certificate alone. */
function get(url: string, ca: string): Promise<{ status: number; transport: string | undefined }> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { ca: readFileSync(ca), agent: false }, (answer) => {
      answer.resume();
      const transport = answer.headers["strict-transport-security"];
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, transport }));
    });
    asked.on("error", reject).end();
  });
}

test("over TLS browsers are told to stay there, a new certificate is read at SIGHUP, and a broken one changes nothing", async () => {
  await using state = await temporary();
  const [one, two] = [certificate(state.dir, "one"), certificate(state.dir, "two")];
  const [cert, key] = [join(state.dir, "now.pem"), join(state.dir, "now.key")];
  const use = (pair: { cert: string; key: string }) => {
    execFileSync("cp", [pair.cert, `${cert}.new`]);
    execFileSync("cp", [pair.key, `${key}.new`]);
    renameSync(`${key}.new`, key);
    renameSync(`${cert}.new`, cert);
  };
  use(one);
  const settings = { FORMATION_TLS_CERT: cert, FORMATION_TLS_KEY: key };
  await using program = await start(join(state.dir, "state"), settings);
  expect(program.url).toMatch(/^https:/);
  expect(await get(`${program.url}/`, one.cert)).toEqual({
    status: 200,
    transport: expect.stringMatching(/^max-age/),
  });
  expect((await get(`${program.url}/.well-known/oauth-authorization-server`, one.cert)).status).toBe(200);

  use(two);
  program.child.kill("SIGHUP");
  await waitFor(
    () =>
      get(`${program.url}/`, two.cert).then(
        () => true,
        () => false,
      ),
    {
      timeoutMs: 20_000,
      what: "the new certificate",
    },
  );
  use({ cert: two.cert, key: one.key });
  program.child.kill("SIGHUP");
  await waitFor(() => program.output().includes("the old one stays"), {
    timeoutMs: 20_000,
    what: "the complaint",
  });
  expect((await get(`${program.url}/`, two.cert)).status).toBe(200);

  program.child.kill("SIGTERM");
  expect(await program.ended()).toBe(0);
});
