// How this user signs in to a server: with a token, with a key, or with the session that `login` left. This
// folder knows everything about a team's server. It runs on Node 20 and is loaded only when a server is used.

import type { RemoteConfiguration } from "@formation-mcp/assembly/settings";
import { type Client, createClient } from "@formation-mcp/client";
import { FormationError } from "@formation-mcp/contract";
import { openCredentials } from "./credentials.ts";
import { fileSigner, hasKey, isSealed } from "./keys.ts";

/**
 * A client for a command. It keeps its session for the next command. Without a session the key signs in, and
 * may ask for its passphrase.
 * @param needsKey whether the command signs something, so that a token or a session is not enough.
 * @throws FormationError `invalid` if no server is named, `unauthenticated` without token, key and session.
 */
export function connect(settings: RemoteConfiguration, needsKey = false): Client {
  const { allowHttp, token } = settings;
  const { url, storage } = selectServer(settings);
  if (token !== null && !needsKey) return createClient({ url, token, allowHttp });
  const known = hasKey(settings);
  if (!known && (needsKey || storage.load() === null)) throw noKey(settings);
  const key = known ? { key: () => fileSigner(settings, true) } : {};
  return createClient({ url, storage, allowHttp, ...key });
}

/**
 * A client for the MCP server, which has no terminal to ask on. A session of a key is this process's own,
 * with the scopes that it serves.
 * @throws FormationError as {@link connect}, and if the key needs a passphrase that is not set.
 */
export async function connectWithoutTerminal(
  settings: RemoteConfiguration,
  scopes: readonly string[],
): Promise<Client> {
  const { allowHttp, token } = settings;
  const { url, storage } = selectServer(settings);
  if (token !== null) return createClient({ url, token, allowHttp });
  const signedIn = storage.load() !== null;
  if (hasKey(settings)) {
    const key = await fileSigner(settings, false).catch((error: unknown) => {
      if (!isSealed(error) || settings.passphrase !== null) throw error;
      if (!signedIn) throw sealed(settings);
      return null; // the session needs no key
    });
    if (key) return createClient({ url, key, scopes, allowHttp });
  } else if (!signedIn) throw noKey(settings);
  return createClient({ url, storage, allowHttp });
}

/** The server that the settings name, or else the one signed in to last, and the storage of its session. */
export function selectServer({ url: named, credentialsFile }: RemoteConfiguration) {
  const credentials = openCredentials(credentialsFile);
  const url = named ?? credentials.current();
  if (url === null) {
    throw new FormationError("invalid", "No server is named.", {
      remedy: "Give --server URL, set FORMATION_URL, or sign in once: formation-mcp login --server URL",
    });
  }
  // The client refuses what is no URL.
  return { url, storage: credentials.of(URL.canParse(url) ? new URL(url).origin : url) };
}

function noKey({ keyFile }: RemoteConfiguration): FormationError {
  return new FormationError("unauthenticated", `There is no key at ${keyFile}.`, {
    remedy: "Make one with: formation-mcp keygen. Then let the server's operator admit its id.",
  });
}

function sealed({ keyFile }: RemoteConfiguration): FormationError {
  return new FormationError("unauthenticated", `The key in ${keyFile} is sealed with a passphrase.`, {
    remedy: "Set FORMATION_KEY_PASSPHRASE, or sign in once in a terminal: formation-mcp login --server URL",
  });
}
