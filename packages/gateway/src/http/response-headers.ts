// Headers that say what browsers may do with a response: the security headers of every response, and CORS for
// the web origins that the operator lists.

/** The security headers of every response, whichever part of the server makes it. */
export function securityHeaders(publicUrl: string): Readonly<Record<string, string>> {
  return {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    // `same-origin` and not `no-referrer`, which would make browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-permitted-cross-domain-policies": "none",
    ...(publicUrl.startsWith("https:") ? { "strict-transport-security": "max-age=31536000" } : {}),
  };
}

/** The content security policy of a response that is not a page. */
export const NO_CONTENT_CSP =
  "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/**
 * The security headers of the OAuth server's responses; pages add their own policy. There is no
 * Cross-Origin-Opener-Policy: web apps open the sign-in in a window and wait for it to return.
 */
export const OAUTH_HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy": NO_CONTENT_CSP,
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

const CORS_METHODS = "GET, POST, PUT, DELETE";
const CORS_REQUEST_HEADERS =
  "authorization, content-type, accept, last-event-id, mcp-protocol-version, mcp-method, mcp-name, traceparent, tracestate";
const CORS_EXPOSED_HEADERS =
  "www-authenticate, mcp-protocol-version, mcp-session-id, retry-after, x-trace-id";

/**
 * Lets a page of a listed origin read the response (Fetch, "CORS protocol"). Tokens are sent in a header, so
 * credentials are not allowed.
 * @param origin the request's Origin header if it is listed, else null.
 */
export function corsHeaders(origin: string | null): Record<string, string> {
  if (origin === null) return {};
  return {
    "access-control-allow-origin": origin,
    "access-control-expose-headers": CORS_EXPOSED_HEADERS,
    "cross-origin-resource-policy": "cross-origin",
  };
}

/** The response to a CORS preflight request of a listed origin. */
export function preflightResponse(origin: string): Response {
  return new Response(null, {
    status: 204,
    headers: {
      ...corsHeaders(origin),
      "access-control-allow-methods": CORS_METHODS,
      "access-control-allow-headers": CORS_REQUEST_HEADERS,
      "access-control-max-age": "600",
      vary: "Origin",
    },
  });
}
