// Who asks: people and agents with keys of their own, signed in over REST as the ancestor's clients do it,
// and what they may be given: narrower tokens, API tokens.

import { generateKey, type KeyKind, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { ask, type Reply } from "./wire.ts";

export const ALL_SCOPES = "pack:read pack:write vm:read vm:write operation:read operation:write";

export interface Person {
  key: KeyPair;
  /** The key's id, and the account's: each person here has one key. */
  id: string;
  scopes: string[];
  token: string;
  refresh: string;
}

interface Envelope {
  status: string;
  data: Record<string, unknown>;
  message: string | null;
  error?: { code: string; message: string; field?: string };
}

export interface RestReply extends Reply {
  json: Envelope;
}

/** Calls the REST door and returns the envelope, whatever the status is. */
export async function rest(
  url: string,
  method: string,
  path: string,
  { token, body }: { token?: string; body?: unknown } = {},
): Promise<RestReply> {
  const reply = await ask(url, {
    method,
    path,
    headers: [
      ...(token === undefined ? [] : ([["Authorization", `Bearer ${token}`]] as const)),
      ...(body === undefined ? [] : ([["Content-Type", "application/json"]] as const)),
    ],
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const isJson = reply.headers["content-type"]?.startsWith("application/json") === true;
  return { ...reply, json: isJson ? JSON.parse(reply.body) : ({} as Envelope) };
}

/** {@link rest}, where all must be well; returns `data`. */
export async function restData(...call: Parameters<typeof rest>): Promise<Record<string, unknown>> {
  const reply = await rest(...call);
  if (reply.status !== 200) throw new Error(`${call[1]} ${call[2]}: ${reply.status} ${reply.body}`);
  return reply.json.data;
}

/** A challenge's message for a key. */
export async function challenge(url: string, id: string): Promise<string> {
  const data = await restData(url, "GET", `/api/auth/challenge?address=${encodeURIComponent(id)}`);
  return String(data["message"]);
}

/** What a login sends: the challenge, signed. */
export function signed(key: KeyPair, message: string): Record<string, unknown> {
  const { signature, publicKey } = signMessage(key, message);
  return {
    address: keyId(key),
    signed_message: message,
    signature,
    ...(publicKey === undefined ? {} : { public_key: publicKey }),
  };
}

export async function signIn(url: string, key: KeyPair, scopes?: string): Promise<Person> {
  const body = signed(key, await challenge(url, keyId(key)));
  return personOf(key, await restData(url, "POST", "/api/auth/login", { body: { ...body, scopes } }));
}

/** The first admin of a fresh server. */
export async function becomeAdmin(url: string, bootstrapToken: string, kind: KeyKind): Promise<Person> {
  const key = generateKey(kind);
  const body = { ...signed(key, await challenge(url, keyId(key))), bootstrap_token: bootstrapToken };
  return personOf(key, await restData(url, "POST", "/api/auth/bootstrap", { body }));
}

/** A new account, opened by the admin and signed in. */
export async function newUser(
  url: string,
  admin: Person,
  scopes: string = ALL_SCOPES,
  kind: KeyKind = "secp256k1",
): Promise<Person> {
  const key = generateKey(kind);
  await admit(url, admin, key, scopes);
  return signIn(url, key);
}

/** Opens an account for a key, or changes what it may do. */
export async function admit(url: string, admin: Person, key: KeyPair, scopes: string): Promise<void> {
  const named = key.kind === "secp256k1" ? { id: keyId(key) } : { public_key: key.publicJwk() };
  const body = { ...named, scopes: scopes.split(" ") };
  await restData(url, "POST", "/api/accounts", { token: admin.token, body });
}

function personOf(key: KeyPair, data: Record<string, unknown>): Person {
  return {
    key,
    id: keyId(key),
    scopes: data["permissions"] as string[],
    token: String(data["token"]),
    refresh: String(data["refresh_token"]),
  };
}
