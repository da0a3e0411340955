// The sign-in page of an interaction. A person signs in with a wallet in the browser, or signs the login code
// on the computer that has the key.

import type { Authority } from "@formation-mcp/auth/authority";
import { type Clock, FormationError } from "@formation-mcp/contract";
import type { Interaction } from "oidc-provider";
import {
  clientOf,
  denied,
  forgetSession,
  type InteractionExchange,
  interactionEnded,
  interactionOf,
  readOwnForm,
  requireOwnPage,
  sendPage,
} from "./interaction-exchange.ts";
import type { LoginCodes, Signer } from "./login-codes.ts";
import { jsonObject, notFound, sendJson } from "./node-http.ts";
import { loginPage } from "./pages/pages.ts";
import type { OAuthAudit } from "./provider/audit.ts";
import { knownScopes } from "./provider/scopes.ts";
import { lastRevoked } from "./provider/tokens.ts";
import { type Secrets, showCode } from "./secrets.ts";
import type { SignIn } from "./sign-in.ts";

export interface LoginDeps {
  authority: Authority;
  clock: Clock;
  secrets: Secrets;
  codes: LoginCodes;
  signIn: SignIn;
  audit: OAuthAudit;
}

/** Serves `/auth/login/{uid}`, and below it `state` (of the login code) and `challenge` (for a wallet). */
export function createLogin(
  deps: LoginDeps,
): (exchange: InteractionExchange, uid: string, below: string | undefined) => Promise<void> {
  const { codes } = deps;
  return async (exchange, uid, below) => {
    const interaction = await interactionOf(exchange, uid, "login");
    const posted = exchange.request.method === "POST";
    if (below === "state" && !posted) {
      sendJson(exchange.response, 200, { state: await codes.state(uid) });
    } else if (below === "challenge" && posted) {
      await sendChallenge(deps, exchange, interaction);
    } else if (below !== undefined) {
      throw notFound();
    } else if (!posted) {
      await showLogin(deps, exchange, interaction);
    } else {
      await answerForm(deps, exchange, interaction);
    }
  };
}

/** @param problem why the last attempt failed. */
async function showLogin(
  { authority, codes, secrets }: LoginDeps,
  exchange: InteractionExchange,
  interaction: Interaction,
  problem?: string,
): Promise<void> {
  const { uid } = interaction;
  const client = await clientOf(exchange, interaction);
  const code = showCode(await codes.open(subjectOf(interaction)));
  const view = { uid, formToken: secrets.formToken(uid), origin: authority.issuer, client, code };
  sendPage(
    exchange,
    loginPage({ ...view, ...(problem === undefined ? {} : { problem }) }),
    problem === undefined ? 200 : 403,
  );
}

/** The message that a wallet signs. */
async function sendChallenge(
  { authority, secrets, signIn }: LoginDeps,
  exchange: InteractionExchange,
  interaction: Interaction,
): Promise<void> {
  const { request, response, body } = exchange;
  const { uid } = interaction;
  const own = { origin: authority.issuer, secrets };
  requireOwnPage(request, uid, request.headers["x-form-token"], own);
  const { address } = jsonObject(request, body);
  const client = await clientOf(exchange, interaction);
  const scopes = knownScopes(interaction.params["scope"]);
  sendJson(response, 200, await signIn.challenge(uid, address, client, scopes));
}

/** Cancels, or signs in with the wallet's signature or the signed login code. */
async function answerForm(
  deps: LoginDeps,
  exchange: InteractionExchange,
  interaction: Interaction,
): Promise<void> {
  const { authority, codes, secrets, signIn } = deps;
  const { provider, request, response } = exchange;
  const { uid } = interaction;
  const form = readOwnForm(exchange, uid, { origin: authority.issuer, secrets });
  if (form.get("decision") === "cancel") {
    await provider.interactionFinished(request, response, denied("Nobody signed in."));
    return;
  }
  const message = form.get("message")?.replaceAll("\r\n", "\n");
  const signature = form.get("signature");
  const signer = await (message ? signIn.verify(uid, { message, signature }) : codes.take(uid)).catch(
    problemOf,
  );
  if (signer === null) await showLogin(deps, exchange, interaction, "The code has not been signed yet.");
  else if (typeof signer === "string") await showLogin(deps, exchange, interaction, signer);
  else await finishLogin(deps, exchange, interaction, signer);
}

async function finishLogin(
  { authority, clock, audit }: LoginDeps,
  { provider, request, response, address }: InteractionExchange,
  interaction: Interaction,
  by: Signer,
): Promise<void> {
  await audit.record({ action: "POST /auth/login", owner: by.owner, target: null, address });
  if (interaction.session && interaction.session.accountId !== by.owner) {
    await forgetSession(provider, interaction);
    delete interaction.session;
    await interaction.persist();
  }
  const account = await authority.account(by.owner);
  if (!account) throw interactionEnded();
  // A sign-in must count as later than a revocation in the same second.
  const ts = Math.floor(Math.max(clock.now(), lastRevoked(account, by.key) + 1000) / 1000);
  const login = { accountId: by.owner, amr: [by.key], ts, remember: true };
  await provider.interactionFinished(request, response, { login });
}

/** What the login code of an interaction stands for. */
function subjectOf({ uid, params }: Interaction) {
  const text = (name: string) => String(params[name] ?? "");
  return { uid, clientId: text("client_id"), redirectUri: text("redirect_uri"), scope: text("scope") };
}

/** The text of an error that the person can correct, for the page. Throws any other error again. */
function problemOf(error: unknown): string {
  if (error instanceof FormationError && !error.retryable && error.code !== "limit") {
    return [error.message, error.details.remedy].filter(Boolean).join(" ");
  }
  throw error;
}
