// How the server reads a document that a stranger named: the secret is that the address is checked and then dialled
// itself, so that no name can mean a public machine when it is looked at and an inner one when it is called.

import type { LookupAddress, LookupOptions } from "node:dns";
import { lookup as systemLookup } from "node:dns/promises";
import { request } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import type { Clock } from "@formation-mcp/contract";
import { isPublicAddress } from "./public-addresses.ts";

/** What may be read beside the public internet. */
export interface SafeFetchOptions {
  /** `host:port` of machines that may have private addresses; none by default. For an operator's own clients and tests. */
  privateHosts?: readonly string[];
  /** PEM certificates of the authority that signed theirs. */
  ca?: string;
  /** How names become addresses. Default: as the machine does it. */
  lookup?: (name: string) => Promise<LookupAddress[]>;
}

const TIME_MS = 5_000;
const BODY_BYTES = 64 * 1024;

/** What oidc-provider fetches with: the part of `fetch` that it uses. */
export type Fetch = (
  url: string,
  init?: { headers?: ConstructorParameters<typeof Headers>[0]; method?: string | undefined },
) => Promise<Response>;

/**
 * A `fetch` for strangers' addresses: https only, GET only, no redirect is followed, no cookie or credential is sent,
 * 64 KiB and five seconds at most, and every address that the name has must be public. It throws an Error whose message
 * says nothing of what was found inside.
 */
export function createSafeFetch(options: SafeFetchOptions = {}): Fetch {
  const privateHosts = new Set(options.privateHosts ?? []);
  const find = options.lookup ?? ((name: string) => systemLookup(name, { all: true, verbatim: true }));

  /** All addresses of a name; throws unless each of them may be dialled. */
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
    // A literal address is never looked up, so it is checked here.
    const literal = url.hostname.replace(/^\[|\]$/g, "");
    if (isIP(literal) !== 0 && !privately && !isPublicAddress(literal)) {
      throw new Error("the address is not public");
    }
    const lookup = pinned((name) => resolve(name, privately));
    return read(url, new Headers(init?.headers), lookup, options.ca);
  };
}

const FAILURES = 500;
const FAILED_MS = 10_000;

/** The same, but what could not be read is not tried again for ten seconds, however often it is asked for. */
export function withFailureMemory(fetch: Fetch, clock: Clock): Fetch {
  const failed = new Map<string, number>();
  const remember = (url: string) => {
    failed.delete(url);
    failed.set(url, clock.now() + FAILED_MS);
    for (const oldest of failed.keys()) {
      if (failed.size <= FAILURES) break;
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

/** A look-up for one connection: what it returns is what was checked, and is what the socket dials. */
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
        // No shared agent: a connection of another check is never used again.
        agent: false,
        lookup,
        headers: { accept: headers.get("accept") ?? "application/json", "accept-encoding": "identity" },
        maxHeaderSize: 16 * 1024,
        signal: AbortSignal.timeout(TIME_MS),
        ...(ca === undefined ? {} : { ca }),
      },
      (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > BODY_BYTES) sent.destroy(new Error("the document is too large"));
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
          // Every redirect is an answer that is no document; Response takes no body with 204 and 304.
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
