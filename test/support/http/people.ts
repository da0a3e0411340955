// The callers: people and agents with their own keys, signed in over REST like the clients of the ancestor,
// and their narrower tokens and API tokens.

import { generateKey, type KeyKind, type KeyPair, keyId, signMessage } from "@formation-mcp/auth/keys";
import { ask, type Reply } from "./wire.ts";

export const ALL_SCOPES = "pack:read pack:write vm:read vm:write operation:read operation:write";

export interface Person {
  key: KeyPair;
  /** The id of the key and of the account: each person here has one key. */
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

/** Calls the REST API and returns the envelope, whatever the status is. */
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

/** {@link rest}, but a failure is an error; returns `data`. */
export async function restData(...call: Parameters<typeof rest>): Promise<Record<string, unknown>> {
  const reply = await rest(...call);
  if (reply.status !== 200) throw new Error(`${call[1]} ${call[2]}: ${reply.status} ${reply.body}`);
  return reply.json.data;
}

/** The message of a challenge for a key. */
export async function challenge(url: string, id: string): Promise<string> {
  const data = await restData(url, "GET", `/api/auth/challenge?address=${encodeURIComponent(id)}`);
  return String(data["message"]);
}

/** The body of a login: the challenge, signed. */
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

/** Signs in the first admin of a new server. */
export async function becomeAdmin(url: string, bootstrapToken: string, kind: KeyKind): Promise<Person> {
  const key = generateKey(kind);
  const body = { ...signed(key, await challenge(url, keyId(key))), bootstrap_token: bootstrapToken };
  return personOf(key, await restData(url, "POST", "/api/auth/bootstrap", { body }));
}

/** A new account, made by the admin and signed in. */
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

/** Makes an account for a key, or changes its scopes. */
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
