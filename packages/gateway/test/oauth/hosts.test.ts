// Real MCP hosts: the SDK's client with dynamic registration and with a metadata document, with step-up, and
// the registrations and documents that real hosts send.

import { type KeyPair, keyId } from "@formation-mcp/auth/keys";
import { auth, type OAuthClientProvider } from "@modelcontextprotocol/client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { authorize, authorizeUrl, Browser, json, REDIRECT } from "./browser.ts";
import { type DocumentHost, openDocumentHost } from "./documents.ts";
import { type OAuthServer, openOAuthServer } from "./server.ts";

let documents: DocumentHost;
let server: OAuthServer;
beforeAll(async () => {
  documents = await openDocumentHost();
  server = await openOAuthServer({ outside: { privateHosts: [documents.host], ca: documents.ca } });
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await documents[Symbol.asyncDispose]();
});

/** A host's side of OAuth: it keeps what it is told and sends its person to the page. */
function host(options: { redirectUrl?: string; clientMetadataUrl?: string; scope?: string } = {}) {
  const { redirectUrl = REDIRECT, clientMetadataUrl, scope } = options;
  const kept: { client?: never; tokens?: never; discovery?: never; verifier: string; went?: URL } = {
    verifier: "",
  };
  const provider: OAuthClientProvider = {
    redirectUrl,
    ...(clientMetadataUrl === undefined ? {} : { clientMetadataUrl }),
    clientMetadata: {
      client_name: "A host",
      redirect_uris: [redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      ...(scope === undefined ? {} : { scope }),
    },
    clientInformation: () => kept.client,
    saveClientInformation: (client) => {
      kept.client = client as never;
    },
    tokens: () => kept.tokens,
    saveTokens: (tokens) => {
      kept.tokens = tokens as never;
    },
    redirectToAuthorization: (url) => {
      kept.went = url;
    },
    saveCodeVerifier: (verifier) => {
      kept.verifier = verifier;
    },
    codeVerifier: () => kept.verifier,
    saveDiscoveryState: (state) => {
      kept.discovery = state as never;
    },
    discoveryState: () => kept.discovery,
  };
  return { provider, kept };
}

/** One round of the SDK's `auth()`: to the page, back with a code, tokens. */
async function round(
  { provider, kept }: ReturnType<typeof host>,
  key: KeyPair,
  browser: Browser,
  scope?: string,
  more: { forceReauthorization?: boolean } = {},
) {
  const asked = scope === undefined ? {} : { scope };
  expect(await auth(provider, { serverUrl: server.audience, ...asked, ...more })).toBe("REDIRECT");
  const { searchParams } = await authorize(browser, kept.went ?? new URL(server.url), key);
  const code = searchParams.get("code") ?? "";
  const iss = searchParams.get("iss") ?? "";
  expect(await auth(provider, { serverUrl: server.audience, authorizationCode: code, iss })).toBe(
    "AUTHORIZED",
  );
  return server.authority.authenticate(String((await provider.tokens())?.access_token));
}

describe("the stock SDK client", () => {
  it("registers itself, gets a token, and steps up, though it registered with the first scope", async () => {
    const key = await server.admit("secp256k1");
    const browser = new Browser();
    const one = host({ scope: "vm:read" });
    const who = await round(one, key, browser, "vm:read");
    expect([who.principal.owner, ...who.principal.scopes]).toEqual([keyId(key), "vm:read"]);
    const up = await round(one, key, browser, "vm:read pack:write", { forceReauthorization: true });
    expect([...up.principal.scopes].sort()).toEqual(["pack:write", "vm:read"]);
    expect(up.clientId).toBe(who.clientId);
  });

  it("renews by itself", async () => {
    const key = await server.admit("secp256k1");
    const one = host();
    await round(one, key, new Browser(), "vm:read");
    const before = (await one.provider.tokens())?.access_token;
    expect(await auth(one.provider, { serverUrl: server.audience })).toBe("AUTHORIZED");
    expect((await one.provider.tokens())?.access_token).not.toBe(before);
  });

  it("is known by its metadata document, which is read once", async () => {
    const key = await server.admit("secp256k1");
    const path = "/app.json";
    const url = `${documents.origin}${path}`;
    documents.publish(path, {
      client_id: url,
      client_name: "Documented app",
      redirect_uris: [REDIRECT],
      grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      scope: "vm:read profile",
    });
    const browser = new Browser();
    const one = host({ clientMetadataUrl: url });
    const who = await round(one, key, browser, "vm:read");
    expect(who.clientId).toBe(url);
    const up = await round(one, key, browser, "vm:write", { forceReauthorization: true });
    expect([...up.principal.scopes]).toEqual(["vm:write"]);
    expect(documents.read.filter((each) => each === path)).toHaveLength(1);
  });
});

describe("registrations as hosts send them", () => {
  const post = async (metadata: object) => {
    const answer = await fetch(`${server.url}/oauth/register`, json(metadata));
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };

  it("a secret is asked for, and none is given", async () => {
    for (const method of ["client_secret_post", "client_secret_basic", undefined]) {
      const { status, body } = await post({ redirect_uris: [REDIRECT], token_endpoint_auth_method: method });
      expect([status, body["token_endpoint_auth_method"]]).toEqual([201, "none"]);
      expect(body).not.toHaveProperty("client_secret");
    }
  });

  it("unknown grants and response types are left out, and the scope of the moment binds nothing", async () => {
    const { status, body } = await post({
      redirect_uris: ["http://127.0.0.1:33418/", "https://editor.example/redirect"],
      grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
      response_types: ["code", "id_token"],
      scope: "vm:read mail:send",
      application_type: "web",
    });
    expect(status).toBe(201);
    expect(body).toMatchObject({
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      application_type: "native",
    });
    expect(body).not.toHaveProperty("scope");
  });

  it("an app's own scheme and any port of this computer are places to return to", async () => {
    const key = await server.admit("secp256k1");
    const { body } = await post({ redirect_uris: ["editor://auth/callback", "http://localhost:1/cb"] });
    const clientId = String(body["client_id"]);
    for (const redirect_uri of ["editor://auth/callback", "http://localhost:49999/cb"]) {
      const away = await authorize(new Browser(), authorizeUrl(server.url, clientId, { redirect_uri }), key);
      expect(away.href.startsWith(redirect_uri)).toBe(true);
      expect(away.searchParams.get("code")).toBeTruthy();
    }
  });

  it("agents' grants are not for clients that register", async () => {
    const { body } = await post({
      redirect_uris: [REDIRECT],
      grant_types: ["client_credentials", "urn:formation:grant-type:signed-challenge", "authorization_code"],
    });
    expect(body["grant_types"]).toEqual(["authorization_code"]);
  });
});

it("hosts leave nothing in the log", () => {
  expect(server.logged).toEqual([]);
});
