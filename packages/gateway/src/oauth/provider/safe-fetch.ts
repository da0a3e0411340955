// Fetches a document from a URL that a stranger chose. The address that is checked is the address that is
// dialled, so that a name cannot resolve to a public machine for the check and to an internal one for the
// connection (DNS rebinding).

import type { LookupAddress, LookupOptions } from "node:dns";
import { lookup as systemLookup } from "node:dns/promises";
import { request } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import type { Clock } from "@formation-mcp/contract";
import { isPublicAddress } from "./public-addresses.ts";

/** What may be fetched beside the public internet. */
export interface SafeFetchOptions {
  /**
   * `host:port` of machines that may have private addresses, for an operator's own clients. Default: none.
   */
  privateHosts?: readonly string[];
  /** The CA of their certificates, as PEM. */
  ca?: string;
  /** Resolves a name. Default: the resolver of the system. */
  lookup?: (name: string) => Promise<LookupAddress[]>;
}

const TIMEOUT_MS = 5_000;
const MAX_BODY_BYTES = 64 * 1024;

/** The part of `fetch` that oidc-provider uses. */
export type Fetch = (
  url: string,
  init?: { headers?: ConstructorParameters<typeof Headers>[0]; method?: string | undefined },
) => Promise<Response>;

/**
 * A `fetch` for URLs of strangers: https and GET only, no redirects, no cookies or credentials, at most 64
 * KiB and five seconds. Every address of the name must be public. The message of the Error that it throws
 * says nothing about an internal network.
 */
export function createSafeFetch(options: SafeFetchOptions = {}): Fetch {
  const privateHosts = new Set(options.privateHosts ?? []);
  const find = options.lookup ?? ((name: string) => systemLookup(name, { all: true, verbatim: true }));

  /** All addresses of a name. Throws unless each of them may be dialled. */
  async function resolve(name: string, privately: boolean): Promise<LookupAddress[]> {
    const found = await find(name);
    if (found.length === 0 || (!privately && !found.every(({ address }) => isPublicAddress(address)))) {
      throw new Error("the name leads to an address that is not public");
    }
    return found;
  }

  return async (input, init) => {
    const url = new URL(input);
    if (url.protocol !== "https:" || url.username !== "" || url.password !== "") {
      throw new Error("only https addresses without credentials are read");
    }
    if ((init?.method ?? "GET") !== "GET") throw new Error("documents are only read");
    const privately = privateHosts.has(`${url.hostname}:${url.port === "" ? "443" : url.port}`);
    // An IP address is not resolved, so it is checked here.
    const literal = url.hostname.replace(/^\[|\]$/g, "");
    if (isIP(literal) !== 0 && !privately && !isPublicAddress(literal)) {
      throw new Error("the address is not public");
    }
    const lookup = pinned((name) => resolve(name, privately));
    return read(url, new Headers(init?.headers), lookup, options.ca);
  };
}

const MAX_REMEMBERED = 500;
const FAILURE_REMEMBERED_MS = 10_000;

/** The same `fetch`, but a URL that failed is not fetched again for ten seconds. */
export function withFailureMemory(fetch: Fetch, clock: Clock): Fetch {
  const failed = new Map<string, number>();
  const remember = (url: string) => {
    failed.delete(url);
    failed.set(url, clock.now() + FAILURE_REMEMBERED_MS);
    for (const oldest of failed.keys()) {
      if (failed.size <= MAX_REMEMBERED) break;
      failed.delete(oldest);
    }
  };
  return async (url, init) => {
    if (clock.now() < (failed.get(url) ?? 0)) throw new Error("the document could not be read a moment ago");
    try {
      const response = await fetch(url, init);
      if (response.status !== 200) remember(url);
      return response;
    } catch (error) {
      remember(url);
      throw error;
    }
  };
}

/** The lookup of one connection: the addresses that it returns are checked, and the socket dials them. */
function pinned(resolve: (name: string) => Promise<LookupAddress[]>): LookupFunction {
  return (name: string, options: LookupOptions, done) => {
    resolve(name).then(
      (found) => {
        const [first] = found;
        if (options.all) done(null, found);
        else if (first) done(null, first.address, first.family);
      },
      (error: Error) => done(error, ""),
    );
  };
}

function read(url: URL, headers: Headers, lookup: LookupFunction, ca?: string): Promise<Response> {
  return new Promise((answer, fail) => {
    const sent = request(
      url,
      {
        // No shared agent: a connection of an earlier check must not be reused.
        agent: false,
        lookup,
        headers: { accept: headers.get("accept") ?? "application/json", "accept-encoding": "identity" },
        maxHeaderSize: 16 * 1024,
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...(ca === undefined ? {} : { ca }),
      },
      (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > MAX_BODY_BYTES) sent.destroy(new Error("the document is too large"));
          else chunks.push(chunk);
        });
        response.on("error", fail);
        response.on("end", () => {
          const status = response.statusCode ?? 502;
          const kept = new Headers();
          for (const name of ["cache-control", "expires", "content-type"]) {
            const value = response.headers[name];
            if (typeof value === "string") kept.set(name, value);
          }
          // A redirect counts as a failure. Response allows no body with 204 and 304.
          if (status !== 200)
            answer(new Response(null, { status: status < 200 ? 502 : status, headers: kept }));
          else answer(new Response(Buffer.concat(chunks), { status, headers: kept }));
        });
      },
    );
    sent.on("error", fail);
    sent.end();
  });
}
