// Which URLs a client accepts as its server: an origin, over HTTPS unless the server runs on this machine.

import { FormationError } from "@formation-mcp/contract";

/**
 * The origin of a server.
 * @throws FormationError `invalid` for a text that is not the URL of a server, and for plain HTTP beyond this
 *   machine, because tokens are sent there.
 */
export function originOf(text: string, allowHttp: boolean): string {
  const invalid = (message: string, remedy: string) =>
    new FormationError("invalid", message, { field: "url", remedy });
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !["https:", "http:"].includes(url.protocol)) {
    throw invalid("The server's URL is no URL.", "Write it as https://vm.example.org");
  }
  if (url.username || url.password || url.search || url.hash || !/^\/(mcp|api)?\/?$/.test(url.pathname)) {
    throw invalid("The server's URL is more than an origin.", `Write it as ${url.origin}`);
  }
  const isThisMachine = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol === "http:" && !isThisMachine && !allowHttp) {
    throw invalid(
      `${url.origin} is plain HTTP: keys' signatures and tokens could be read on the way.`,
      "Use https://, or allow plain HTTP if the network between is yours alone (allowHttp, FORMATION_ALLOW_HTTP=yes).",
    );
  }
  return url.origin;
}
