// The paths below `/auth`: the sign-in and consent pages, their assets, and the API of login codes.

import { addressKey } from "../http/client-address.ts";
import type { RateLimits } from "../http/rate-limits.ts";
import { type Forwarding, isRead, type OAuthRequest } from "./forwarding.ts";
import type { InteractionExchange } from "./interaction-exchange.ts";
import { isGuess, type LoginCodeRequest } from "./login-codes-api.ts";
import { notFound, send } from "./node-http.ts";
import { assetOf } from "./pages/assets.ts";

export interface PageRouteDeps {
  limits: RateLimits;
  forwarding: Forwarding;
  /** Serves `/auth/login/{uid}` and the paths below it. */
  login: (exchange: InteractionExchange, uid: string, below: string | undefined) => Promise<void>;
  /** Serves `/auth/consent/{uid}`. */
  consent: (exchange: InteractionExchange, uid: string) => Promise<void>;
  /** Serves `/auth/codes/{code}`. */
  loginCodes: (request: LoginCodeRequest) => Promise<void>;
}

/** @throws FormationError `not_found` for any other path or method, `limit`, and what the parts throw. */
export function createPageRoutes(deps: PageRouteDeps): (request: OAuthRequest) => Promise<void> {
  const { forwarding, login, consent } = deps;
  return async (request) => {
    const [, , section = "", id = "", below, ...rest] = request.path.split("/");
    if (rest.length > 0) throw notFound();
    if (section === "assets" && below === undefined && isRead(request.method)) return sendAsset(request, id);
    if (section === "codes") return await serveLoginCode(deps, request, decoded(id), below);
    if (!["GET", "HEAD", "POST"].includes(request.method)) throw notFound();
    const interaction = {
      provider: await forwarding.provider(),
      request: forwarding.sanitize(request),
      response: request.response,
      body: request.body,
      address: request.address,
    };
    if (section === "login") await login(interaction, id, below);
    else if (section === "consent" && below === undefined) await consent(interaction, id);
    else throw notFound();
  };
}

/**
 * A valid code is answered even after many guesses of the address: what slows guesses down is that every
 * request takes a permit, and every wrong code another one.
 */
async function serveLoginCode(
  { limits, forwarding, loginCodes }: PageRouteDeps,
  request: OAuthRequest,
  code: string,
  below: string | undefined,
): Promise<void> {
  const { original, response, body, address } = request;
  // The server has taken the permit of a POST already.
  if (isRead(request.method)) await limits.take("signIn", addressKey(address));
  try {
    await loginCodes({ provider: await forwarding.provider(), original, response, body, code, below });
  } catch (error) {
    if (isGuess(error)) await limits.take("failure", addressKey(address));
    throw error;
  }
}

function sendAsset({ response }: OAuthRequest, name: string): void {
  const asset = assetOf(name);
  if (!asset) throw notFound();
  send(response, 200, asset.text, {
    "content-type": asset.type,
    "cache-control": "public, max-age=31536000, immutable",
  });
}

/** A decoded part of a path; empty if it is malformed. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}
