// A request with a good token: one that the server takes no more is renewed once before anybody hears of it.

import { FormationError } from "@formation-mcp/contract";
import type { Sessions } from "./session.ts";
import type { Ask, Wire } from "./wire.ts";

export interface Waiting {
  signal?: AbortSignal | undefined;
}

/** How a part of the client asks the server: with a good token. */
export interface Asker {
  readonly url: string;
  send(ask: Omit<Ask, "token">): Promise<unknown>;
  open(ask: Omit<Ask, "token">): Promise<Response>;
}

/** Sends with a token, and once more with a new one if the server refuses the first: it did nothing then. */
export function askerOf(wire: Wire, sessions: Pick<Sessions, "token">): Asker {
  const withToken = async <T>(ask: Omit<Ask, "token">, go: (ask: Ask) => Promise<T>): Promise<T> => {
    const { signal } = ask;
    const token = await sessions.token({ signal });
    try {
      return await go({ ...ask, token });
    } catch (error) {
      const used = ask.body !== undefined && !ask.repeatable; // a stream is read already
      if (!(error instanceof FormationError) || error.code !== "unauthenticated" || used) throw error;
      const renewed = await sessions.token({ signal, refused: token });
      if (renewed === token) throw error;
      return go({ ...ask, token: renewed });
    }
  };
  return {
    url: wire.url,
    send: (ask) => withToken(ask, (full) => wire.send(full)),
    open: (ask) => withToken(ask, (full) => wire.open(full)),
  };
}

/** A token that nobody renews. */
export function fixedToken(token: string): Pick<Sessions, "token"> {
  return { token: async () => token };
}
