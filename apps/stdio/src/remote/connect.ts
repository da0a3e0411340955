// How this user gets to a server: with a token, with a key, or with the session that `login` left. Everything here runs
// on Node 20, and nothing of it is loaded where this machine itself does the work.

import type { RemoteConfiguration } from "@formation-mcp/assembly/settings";
import { type Client, createClient } from "@formation-mcp/client";
import { FormationError } from "@formation-mcp/contract";
import { openCredentials } from "./credentials.ts";
import { fileSigner, hasKey, isSealed } from "./keys.ts";

/**
 * The way of a command: the session is kept for the next one; the key signs when there is none, and may ask for its
 * passphrase then.
 * @param needsKey whether a token or a session does not do, because something is to be signed.
 * @throws FormationError `invalid` if no server is named, `unauthenticated` if there is no way in.
 */
export function connect(settings: RemoteConfiguration, needsKey = false): Client {
  const { allowHttp, token } = settings;
  const { url, storage } = whereTo(settings);
  if (token !== null && !needsKey) return createClient({ url, token, allowHttp });
  const known = hasKey(settings);
  if (!known && (needsKey || storage.load() === null)) throw noKey(settings);
  const key = known ? { key: () => fileSigner(settings, true) } : {};
  return createClient({ url, storage, allowHttp, ...key });
}

/**
 * The way of the server for hosts: it asks nobody, and a key's session is its own, with the scopes that it serves.
 * @throws FormationError as {@link connect}, and if the key can't be used as it is
 */
export async function connectQuietly(
  settings: RemoteConfiguration,
  scopes: readonly string[],
): Promise<Client> {
  const { allowHttp, token } = settings;
  const { url, storage } = whereTo(settings);
  if (token !== null) return createClient({ url, token, allowHttp });
  const signedIn = storage.load() !== null;
  if (hasKey(settings)) {
    const key = await fileSigner(settings, false).catch((error: unknown) => {
      if (!isSealed(error) || settings.passphrase !== null) throw error;
      if (!signedIn) throw sealed(settings);
      return null; // the session lasts without it
    });
    if (key) return createClient({ url, key, scopes, allowHttp });
  } else if (!signedIn) throw noKey(settings);
  return createClient({ url, storage, allowHttp });
}

/** The server that is meant, and where the session with it is kept. */
export function whereTo({ url: named, credentialsFile }: RemoteConfiguration) {
  const credentials = openCredentials(credentialsFile);
  const url = named ?? credentials.current();
  if (url === null) {
    throw new FormationError("invalid", "No server is named.", {
      remedy: "Give --server URL, set FORMATION_URL, or sign in once: formation-mcp login --server URL",
    });
  }
  // What is no URL is the client's to refuse.
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
