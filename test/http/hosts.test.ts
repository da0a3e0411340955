// @module-tag bundles

// Hosts and agents that know only the URL of the server. A host goes through OAuth, where a person signs in
// with a wallet and consents in Chromium; it lists tools, is asked for more scopes when it builds, and ships.
// Agents sign in with their own keys.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKey, type KeyPair, keyId } from "@formation-mcp/auth/keys";
import {
  type AuthProvider,
  Client,
  type OAuthClientProvider,
  PrivateKeyJwtProvider,
  StreamableHTTPClientTransport,
} from "@modelcontextprotocol/client";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openChromium } from "../support/http/browser.ts";
import { type Ground, openGround } from "../support/http/ground.ts";
import { answerOf, connectHost, HostProvider } from "../support/http/host.ts";
import { ALL_SCOPES, admit, challenge, newUser, signed } from "../support/http/people.ts";
import { newVisitor } from "../support/http/sign-in.ts";
import { shipsAPage } from "../support/http/story.ts";
import { ask } from "../support/http/wire.ts";
import { must, type Peer } from "../support/server.ts";

const WRITES = /Build and ship/;
let port = 20_000 + Math.floor(Math.random() * 20_000);

let ground: Ground;
let browser: Browser;
let documents: Documents;

beforeAll(async () => {
  documents = await serveDocuments();
  ground = await openGround({
    FORMATION_CLIENT_HOSTS: documents.host,
    FORMATION_CLIENT_CA: documents.certificate,
  });
  browser = await openChromium();
});
afterAll(async () => {
  await browser?.close();
  await ground?.close();
  await documents?.close();
});

interface Documents {
  host: string;
  /** The path of its certificate (PEM). */
  certificate: string;
  /** Publishes a client's metadata document and returns its URL, which is the client's id. */
  publish(redirectUri: string): string;
  close(): Promise<void>;
}

/** An HTTPS site that publishes Client ID Metadata Documents. */
async function serveDocuments(): Promise<Documents> {
  const directory = mkdtempSync(join(tmpdir(), "formation-cimd-"));
  const [key, certificate] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
  const words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
  execFileSync("openssl", [...words, "-addext", names, "-keyout", key, "-out", certificate], {
    stdio: "ignore",
  });
  const published = new Map<string, string>();
  const server: Server = createServer(
    { key: readFileSync(key), cert: readFileSync(certificate) },
    (request, response) => {
      const document = published.get(request.url ?? "");
      response.writeHead(document ? 200 : 404, { "content-type": "application/json" }).end(document);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `localhost:${(server.address() as AddressInfo).port}`;
  return {
    host,
    certificate,
    publish(redirectUri) {
      const path = `/clients/${published.size}.json`;
      const client_id = `https://${host}${path}`;
      const document = {
        client_id,
        client_name: "A published host",
        redirect_uris: [redirectUri],
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        token_endpoint_auth_method: "none",
      };
      published.set(path, JSON.stringify(document));
      return client_id;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

describe.each([
  ["v2", "a published document (CIMD)"],
  ["v2", "registering itself (DCR)"],
  ["v1", "registering itself (DCR)"],
] as const)("A host with the SDK's %s client that is known by %s", (line, way) => {
  test("signs a person in, lists, asks for more, builds and ships", async () => {
    const person = await newUser(ground.url, ground.admin);
    const visitor = await newVisitor(browser, person.key);
    const provider = await HostProvider.open();
    if (way.includes("CIMD")) provider.publishedAs(documents.publish(provider.redirectUrl));
    const peer = await connectHost(line, `${ground.url}/mcp`, provider, visitor.goes);
    try {
      expect(await must(peer, "vm_list", {})).toEqual({ instances: [], cursor: null });
      expect(visitor.asked, "one consent").toHaveLength(1);
      // SDK 1.x can not ask a person for more scopes, so it asks for all at once. SDK 2.x begins with the
      // read scope.
      const stepsUp = line === "v2";
      if (stepsUp) expect(visitor.asked[0]).not.toMatch(WRITES);
      else expect(visitor.asked[0]).toMatch(WRITES);
      expect((await peer.tools()).includes("pack_build")).toBe(!stepsUp);

      await shipsAPage(peer, `${line}-${way.includes("CIMD") ? "cimd" : "dcr"}`, ++port);
      if (stepsUp) expect(visitor.asked[1], "the second, for building").toMatch(WRITES);
      else expect(visitor.asked, "no second").toHaveLength(1);
      expect(
        visitor.seen.filter((title) => title.startsWith("Sign in")),
        "the key signed once",
      ).toHaveLength(1);
      expect(provider.answers.every((answer) => answer.get("iss") === ground.url)).toBe(true);
      for (const { access_token, refresh_token = "" } of provider.taken) {
        ground.secrets.add(access_token).add(refresh_token);
      }
      expect(way.includes("CIMD") ? provider.registered?.client_id : provider.registered).toSatisfy(
        (known: unknown) =>
          way.includes("CIMD") ? String(known).startsWith("https://") : known !== undefined,
      );
    } finally {
      await peer.close();
      await visitor.close();
    }
  });
});

describe("A host with the SDK's v1 client that keeps no refresh tokens", () => {
  test("is asked for more when the account may do more than it could at the first consent", async () => {
    const person = await newUser(ground.url, ground.admin, "vm:read operation:read pack:read");
    const visitor = await newVisitor(browser, person.key);
    const provider = await HostProvider.open({ renews: false });
    const peer = await connectHost("v1", `${ground.url}/mcp`, provider, visitor.goes);
    try {
      expect(await must(peer, "vm_list", {})).toEqual({ instances: [], cursor: null });
      expect(await peer.tools()).not.toContain("pack_build");
      expect(provider.tokens()).not.toHaveProperty("refresh_token");

      await admit(ground.url, ground.admin, person.key, ALL_SCOPES);
      await shipsAPage(peer, "v1-steps-up", ++port);
      expect(visitor.asked[0]).not.toMatch(WRITES);
      expect(visitor.asked[1], "a second consent, for building").toMatch(WRITES);
      for (const { access_token } of provider.taken) ground.secrets.add(access_token);
    } finally {
      await peer.close();
      await visitor.close();
    }
  });
});

describe("An agent with a key of its own", () => {
  test("is an OAuth client by private_key_jwt (Ed25519), with nothing but the SDK", async () => {
    const key = generateKey("ed25519");
    await admit(ground.url, ground.admin, key, ALL_SCOPES);
    const provider = new PrivateKeyJwtProvider({
      clientId: keyId(key),
      privateKey: privateJwk(key),
      algorithm: "EdDSA",
      expectedIssuer: ground.url,
    });
    const peer = await connectAgent(provider);
    await shipsAPage(peer, "jwt-agent", ++port);
    await peer.close();
  });

  test("is one by a signed challenge (secp256k1)", async () => {
    const key = generateKey("secp256k1");
    await admit(ground.url, ground.admin, key, ALL_SCOPES);
    const { signed_message, signature } = signed(key, await challenge(ground.url, keyId(key)));
    const form = {
      grant_type: "urn:formation:grant-type:signed-challenge",
      message: String(signed_message),
      signature: String(signature),
      resource: `${ground.url}/mcp`,
    };
    const request = {
      method: "POST",
      path: "/oauth/token",
      headers: [["Content-Type", "application/x-www-form-urlencoded"]] as const,
      body: new URLSearchParams(form).toString(),
    };
    const reply = await ask(ground.url, request);
    expect(reply.status, reply.body).toBe(200);
    const { access_token } = JSON.parse(reply.body) as { access_token: string };
    ground.secrets.add(access_token);
    expect(JSON.parse((await ask(ground.url, request)).body), "a challenge is good once").toMatchObject({
      error: "invalid_grant",
    });

    const peer = await connectAgent({ token: async () => access_token });
    await shipsAPage(peer, "challenge-agent", ++port);
    await peer.close();
  });

  test("with another's name, or a key without an account, gets nothing", async () => {
    const stranger = generateKey("ed25519");
    for (const clientId of [keyId(stranger), ground.user.id]) {
      const provider = new PrivateKeyJwtProvider({
        clientId,
        privateKey: privateJwk(stranger),
        algorithm: "EdDSA",
        expectedIssuer: ground.url,
      });
      await expect(connectAgent(provider)).rejects.toThrow(/invalid_client|client/i);
    }
  });
});

/** RFC 8037 §2. */
function privateJwk(key: KeyPair): Record<string, unknown> {
  return { ...key.publicJwk(), d: Buffer.from(key.revealPrivate(), "hex").toString("base64url") };
}

async function connectAgent(authProvider: AuthProvider | OAuthClientProvider): Promise<Peer> {
  const client = new Client({ name: "agent", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${ground.url}/mcp`), { authProvider }));
  return {
    name: "agent",
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    call: async (name, input) =>
      answerOf(await client.callTool({ name, arguments: input }, { timeout: 60_000 })),
    close: () => client.close(),
  };
}
