// OAuth clients. A stranger's metadata is normalized to the one shape that works with real hosts and is safe.
// Agents are clients without a registration: their key is their client id.

import type { Authority } from "@formation-mcp/auth/authority";
import { replaceUnprintable } from "@formation-mcp/base";
import { FormationError } from "@formation-mcp/contract";
import type { AdapterPayload, Client, Provider } from "oidc-provider";

/** The grant for keys that cannot make a JWT: a signature over a challenge (secp256k1 or Ed25519). */
export const CHALLENGE_GRANT = "urn:formation:grant-type:signed-challenge";

/** The client of tokens that a key gets for itself with {@link CHALLENGE_GRANT}. */
export const OWN_CLIENT = "formation";

const LOOPBACK: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);
/** The form of a redirect's origin, which becomes part of a content security policy and of a page. */
const ORIGIN = /^https?:\/\/[a-z0-9.\-_[\]:]+$/;
const SCHEME = /^[a-z][a-z0-9+.-]{1,40}:$/;
const FORBIDDEN_SCHEMES: ReadonlySet<string> = new Set([
  "javascript:",
  "vbscript:",
  "data:",
  "blob:",
  "file:",
  "about:",
  "filesystem:",
  "ws:",
  "wss:",
  "ftp:",
  "view-source:",
]);

/** The grants of clients that people use; agents have other grants. */
const GRANTS: readonly unknown[] = ["authorization_code", "refresh_token"];

/** Where a redirect goes, for a person and for a content security policy. */
interface RedirectPlace {
  /** For the content security policy: `https://host`, `http://127.0.0.1:8080`, `cursor:`. */
  source: string;
  /** For people: the host, or the scheme of an app on this computer. */
  label: string;
  kind: "web" | "loopback" | "app";
}

/** Parses a redirect URI; null if no browser may be sent there. */
function redirectPlace(uri: unknown): RedirectPlace | null {
  const url = typeof uri === "string" && uri.length <= 2000 ? URL.parse(uri) : null;
  if (url?.username !== "" || url.password !== "" || url.href.includes("#")) return null;
  if (url.protocol === "https:" || url.protocol === "http:") {
    if (!ORIGIN.test(url.origin)) return null;
    if (LOOPBACK.has(url.hostname)) {
      return { source: url.origin, label: `this computer (${url.host})`, kind: "loopback" };
    }
    // Plain http to another machine would expose the code on the network.
    return url.protocol === "http:" ? null : { source: url.origin, label: url.host, kind: "web" };
  }
  if (!SCHEME.test(url.protocol) || FORBIDDEN_SCHEMES.has(url.protocol)) return null;
  return { source: url.protocol, label: `an app on this computer (${url.protocol}//)`, kind: "app" };
}

/**
 * Normalizes a client's metadata (RFC 7591 §2, or draft-ietf-oauth-client-id-metadata-document). Keeps only
 * known members and grant types. No client gets a secret. A client that redirects to its own computer is a
 * native app, whose port may change. `scope` is dropped: hosts put the scope of the moment there, and could
 * never ask for more.
 * @throws RedirectError
 */
export function normalizeClient(given: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const redirects = Array.isArray(given["redirect_uris"]) ? given["redirect_uris"] : [];
  const places = redirects.map(redirectPlace);
  if (redirects.length === 0 || redirects.length > 20 || places.includes(null)) {
    throw new RedirectError();
  }
  const grants = Array.isArray(given["grant_types"]) ? given["grant_types"] : GRANTS;
  const assertion = given["token_endpoint_auth_method"] === "private_key_jwt";
  const kept: Record<string, unknown> = {
    redirect_uris: redirects,
    grant_types: GRANTS.filter((grant) => grant === "authorization_code" || grants.includes(grant)),
    response_types: ["code"],
    token_endpoint_auth_method: assertion ? "private_key_jwt" : "none",
    application_type: places.some((place) => place?.kind !== "web") ? "native" : "web",
  };
  if (assertion) {
    for (const name of ["jwks", "jwks_uri"]) if (given[name] !== undefined) kept[name] = given[name];
  }
  const name = plainText(given["client_name"], 80);
  if (name !== "") kept["client_name"] = name;
  if (typeof given["client_id"] === "string") kept["client_id"] = given["client_id"];
  return kept;
}

/** Normalizes a client metadata document. One that the provider must refuse is passed on unchanged. */
export async function normalizeClientDocument(url: string, response: Response): Promise<Response> {
  if (response.status !== 200) return response;
  const text = await response.text();
  let body = text;
  try {
    const document: unknown = JSON.parse(text);
    if (typeof document === "object" && document !== null && "client_id" in document) {
      const given = document as Record<string, unknown>;
      const secret = ["client_secret", "client_secret_expires_at"].some((name) => name in given);
      const method = String(given["token_endpoint_auth_method"] ?? "none");
      if (given["client_id"] === url && !secret && ["none", "private_key_jwt"].includes(method)) {
        body = JSON.stringify(normalizeClient(given));
      }
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return new Response(body, { status: 200, headers: response.headers });
}

/** The redirect URIs of a client are missing or not allowed. */
export class RedirectError extends Error {
  override readonly name = "RedirectError";

  constructor() {
    super(
      "redirect_uris must name 1 to 20 places: https addresses, http addresses of this computer, or an app's own scheme; no fragments, no credentials",
    );
  }
}

/**
 * A stranger's text on one line: without control and format characters (which hide or reorder text), without
 * surplus spaces, at most `length` characters.
 */
export function plainText(text: unknown, length: number): string {
  if (typeof text !== "string") return "";
  const printable = replaceUnprintable(text.slice(0, 4 * length).normalize("NFC"), "");
  const clean = printable.replace(/\s+/g, " ").trim();
  const letters = [...clean];
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : clean;
}

/** A client as pages and messages show it. */
export interface ClientDisplay {
  /** The name that it gives itself, or null. */
  name: string | null;
  /** The host of its metadata document, if it has one. */
  verifiedHost: string | null;
  redirect: RedirectPlace;
}

/** @throws RedirectError */
function displayOf(client: Pick<Client, "clientId" | "clientName">, redirectUri: unknown): ClientDisplay {
  const redirect = redirectPlace(redirectUri);
  if (!redirect) throw new RedirectError();
  const url = client.clientId.startsWith("https://") ? URL.parse(client.clientId) : null;
  return { name: plainText(client.clientName, 80) || null, verifiedHost: url?.host ?? null, redirect };
}

/**
 * How a client is shown.
 * @throws FormationError `not_found` if it is no longer registered, or its document cannot be read now.
 */
export async function findClientDisplay(
  provider: Provider,
  clientId: string,
  redirectUri: unknown,
): Promise<ClientDisplay> {
  const client = await provider.Client.find(clientId).catch(() => undefined);
  if (!client) throw new FormationError("not_found", "The app that asked is not known any more.");
  return displayOf(client, redirectUri);
}

/**
 * The clients that need no registration: `key:<thumbprint>` with private_key_jwt for each known key, and
 * {@link OWN_CLIENT}.
 */
export async function agentClient(authority: Authority, id: string): Promise<AdapterPayload | undefined> {
  if (id === OWN_CLIENT) {
    return {
      client_id: id,
      client_name: "Formation",
      token_endpoint_auth_method: "none",
      grant_types: [CHALLENGE_GRANT],
      response_types: [],
      redirect_uris: [],
    };
  }
  if (!/^key:[A-Za-z0-9_-]{43}$/.test(id)) return undefined;
  const jwk = await authority.publicKeyOf(id);
  if (!jwk) return undefined;
  return {
    client_id: id,
    client_name: id,
    token_endpoint_auth_method: "private_key_jwt",
    grant_types: ["client_credentials"],
    response_types: [],
    redirect_uris: [],
    jwks: { keys: [jwk] },
  };
}
