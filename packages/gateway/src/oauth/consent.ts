// The consent page of an interaction: a person allows or denies what a client asks for, or signs in with
// another key. This folder knows the OAuth server: its endpoints, its interactions with people, its login
// codes.

import type { Authority } from "@formation-mcp/auth/authority";
import type { Interaction } from "oidc-provider";
import {
  clientOf,
  denied,
  forgetSession,
  type InteractionExchange,
  interactionEnded,
  interactionOf,
  readOwnForm,
  sendPage,
} from "./interaction-exchange.ts";
import { consentPage } from "./pages/pages.ts";
import type { OAuthAudit } from "./provider/audit.ts";
import { grantable } from "./provider/interaction-policy.ts";
import { knownScopes, scopesOf } from "./provider/scopes.ts";
import type { Secrets } from "./secrets.ts";

export interface ConsentDeps {
  authority: Authority;
  secrets: Secrets;
  audit: OAuthAudit;
}

/** Serves `/auth/consent/{uid}`. */
export function createConsent(
  deps: ConsentDeps,
): (exchange: InteractionExchange, uid: string) => Promise<void> {
  const { authority, secrets, audit } = deps;
  const origin = authority.issuer;
  return async (exchange, uid) => {
    const interaction = await interactionOf(exchange, uid, "consent");
    const { provider, request, response, address } = exchange;
    const owner = interaction.session?.accountId ?? "";
    const account = await authority.account(owner);
    if (!account) throw interactionEnded();
    const scopes = grantable(interaction.params["scope"], scopesOf(account));
    if (request.method !== "POST") {
      const client = await clientOf(exchange, interaction);
      const withheld = knownScopes(interaction.params["scope"]).filter((scope) => !scopes.includes(scope));
      const formToken = secrets.formToken(uid);
      sendPage(exchange, consentPage({ uid, formToken, origin, client, owner, scopes, withheld }), 200);
      return;
    }
    const decision = readOwnForm(exchange, uid, { origin, secrets }).get("decision");
    const clientId = String(interaction.params["client_id"]);
    const record = (action: string) => audit.record({ action, owner, target: clientId, address });
    if (decision === "allow" && scopes.length > 0) {
      await record("POST /auth/consent (allow)");
      const before = interaction.grantId ? await provider.Grant.find(interaction.grantId) : undefined;
      const grant = before ?? new provider.Grant({ accountId: owner, clientId });
      grant.addResourceScope(authority.audience, scopes.join(" "));
      const consent = { grantId: await grant.save() };
      await provider.interactionFinished(request, response, { consent });
    } else if (decision === "switch") {
      await startAgain(exchange, interaction);
    } else {
      await record("POST /auth/consent (deny)");
      await provider.interactionFinished(request, response, denied("The request was denied."));
    }
  };
}

/** Signs the browser out and repeats the authorization request, so that another key can sign in. */
async function startAgain(
  { provider, response }: InteractionExchange,
  interaction: Interaction,
): Promise<void> {
  await forgetSession(provider, interaction);
  await interaction.destroy();
  response.statusCode = 303;
  response.setHeader("location", `/oauth/authorize?${originalQuery(interaction.params)}`);
  response.end();
}

/** The authorization request as it was first made, without `prompt`, which may have led to this page. */
function originalQuery(params: Interaction["params"]): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (name === "prompt") continue;
    for (const one of Array.isArray(value) ? value : [value])
      if (typeof one === "string") query.append(name, one);
  }
  return query.toString();
}
