// Dynamic client registration (RFC 7591). A registration is stored and needs no proof of anything, so it is
// bounded in size and in number per address and hour.

import { type Clock, type Counters, FormationError } from "@formation-mcp/contract";
import { addressKey } from "../http/client-address.ts";
import { BODY_FIELD } from "../http/error-response.ts";
import type { Forwarding, OAuthRequest } from "./forwarding.ts";
import { jsonObject, sendJson } from "./node-http.ts";
import { normalizeClient, RedirectError } from "./provider/clients.ts";

const MAX_REGISTRATION_BYTES = 16 * 1024;
const HOUR_MS = 3_600_000;

export interface RegistrationDeps {
  counters: Counters;
  clock: Clock;
  forwarding: Forwarding;
  /** Registrations of one address per hour; 0 is no limit. */
  maxPerHour: number;
}

/** @throws FormationError `limit`, `invalid` if the body is not a JSON object. */
export function createRegistration(deps: RegistrationDeps): (request: OAuthRequest) => Promise<void> {
  const { counters, clock, forwarding, maxPerHour } = deps;
  return async (request) => {
    const { original, response, address } = request;
    let body: Buffer;
    try {
      const { client_id: _, ...client } = normalizeClient(jsonObject(original, request.body));
      body = Buffer.from(JSON.stringify(client));
    } catch (error) {
      if (!(error instanceof RedirectError)) throw error;
      return sendJson(response, 400, { error: "invalid_redirect_uri", error_description: error.message });
    }
    if (body.length > MAX_REGISTRATION_BYTES) {
      throw new FormationError("limit", "A registration has at most 16 KiB.", { field: BODY_FIELD });
    }
    if (maxPerHour > 0) {
      const key = `oauth:register:${addressKey(address)}`;
      const hour = { key, limit: maxPerHour, windowMs: HOUR_MS, amount: 1 };
      const { granted, resets_at } = await counters.spend(hour);
      if (granted === 0) {
        response.setHeader("retry-after", String(Math.ceil((resets_at - clock.now()) / 1000)));
        throw new FormationError("limit", "Too many clients were registered from your address this hour.");
      }
    }
    await forwarding.forward(request, { body });
  };
}
