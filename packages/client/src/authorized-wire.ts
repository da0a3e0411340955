// A wire that adds a valid token to every request. A token that the server refuses is renewed once, unseen by
// the caller.

import { FormationError } from "@formation-mcp/contract";
import type { RequestSpec } from "./http-request.ts";
import type { Sessions } from "./session.ts";
import type { Wire } from "./wire.ts";

export interface RequestOptions {
  /** Cancels the request. */
  signal?: AbortSignal | undefined;
}

export interface AuthorizedWire {
  readonly url: string;
  send(request: Omit<RequestSpec, "token">): Promise<unknown>;
  open(request: Omit<RequestSpec, "token">): Promise<Response>;
}

/**
 * Sends with a token, and once more with a new token if the server refuses the first: a refused request did
 * nothing. A streamed body cannot be sent a second time.
 */
export function createAuthorizedWire(wire: Wire, sessions: Pick<Sessions, "token">): AuthorizedWire {
  const withToken = async <T>(
    request: Omit<RequestSpec, "token">,
    send: (request: RequestSpec) => Promise<T>,
  ): Promise<T> => {
    const { signal } = request;
    const token = await sessions.token({ signal });
    try {
      return await send({ ...request, token });
    } catch (error) {
      const isConsumed = request.body !== undefined && !request.repeatable;
      if (!(error instanceof FormationError) || error.code !== "unauthenticated" || isConsumed) throw error;
      const renewed = await sessions.token({ signal, refused: token });
      if (renewed === token) throw error;
      return send({ ...request, token: renewed });
    }
  };
  return {
    url: wire.url,
    send: (request) => withToken(request, (full) => wire.send(full)),
    open: (request) => withToken(request, (full) => wire.open(full)),
  };
}

/** A token that is never renewed, such as an API token. */
export function fixedToken(token: string): Pick<Sessions, "token"> {
  return { token: async () => token };
}
