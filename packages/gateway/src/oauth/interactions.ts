// What people do on the pages: sign in, say yes or no, take another key. The secret is that a form counts only from the
// browser that the interaction belongs to, from our own page, and once.

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Authority } from "@formation-mcp/auth/authority";
import { type Clock, FormationError } from "@formation-mcp/contract";
import { errors, type Interaction, type Provider } from "oidc-provider";
import type { LoginCodes, Signer } from "./login-codes.ts";
import { jsonObject, nothingHere, send, sendJson } from "./node-http.ts";
import { consentPage, loginPage, type Page } from "./pages/pages.ts";
import type { OAuthAudit } from "./provider/audit.ts";
import { type ClientDisplay, findClientDisplay } from "./provider/clients.ts";
import { grantable } from "./provider/interaction-policy.ts";
import { knownScopes, scopesOf } from "./provider/scopes.ts";
import { lastRevoked } from "./provider/tokens.ts";
import { formOf } from "./request-rewriting.ts";
import type { Secrets } from "./secrets.ts";
import type { SignIn } from "./sign-in.ts";

/** One request to a page. */
interface Visit {
  provider: Provider;
  /** Remade, with its body read. */
  request: IncomingMessage;
  response: ServerResponse;
  body: Buffer;
  /** The client's. */
  address: string;
}

export interface InteractionOptions {
  authority: Authority;
  clock: Clock;
  secrets: Secrets;
  codes: LoginCodes;
  signIn: SignIn;
  journal: OAuthAudit;
}

export interface Interactions {
  /** `/auth/login/{uid}` and what is below it. */
  login(visit: Visit, uid: string, below: string | undefined): Promise<void>;
  /** `/auth/consent/{uid}`. */
  consent(visit: Visit, uid: string): Promise<void>;
}

export function createInteractions(options: InteractionOptions): Interactions {
  const { authority, clock, secrets, codes, signIn, journal } = options;
  const origin = authority.issuer;

  /** The interaction of this browser, if it is the one that the address names. */
  async function interactionOf(visit: Visit, uid: string, prompt: string): Promise<Interaction> {
    const { provider, request, response } = visit;
    const found = await provider.interactionDetails(request, response).catch((error: unknown) => {
      if (error instanceof errors.SessionNotFound) throw gone();
      throw error;
    });
    if (found.uid !== uid || found.prompt.name !== prompt) throw gone();
    return found;
  }

  function faceIn({ provider }: Visit, { params }: Interaction): Promise<ClientDisplay> {
    return findClientDisplay(provider, String(params["client_id"]), params["redirect_uri"]);
  }

  function subjectOf({ uid, params }: Interaction) {
    const text = (name: string) => String(params[name] ?? "");
    return { uid, clientId: text("client_id"), redirectUri: text("redirect_uri"), scope: text("scope") };
  }

  /** The fields of a form of ours. */
  function ourForm({ request, body }: Visit, uid: string): URLSearchParams {
    const form = formOf(request, body);
    if (!form) throw forged();
    fromOurPage(request, uid, form.get("csrf"));
    return form;
  }

  function fromOurPage({ headers }: IncomingMessage, uid: string, token: unknown): void {
    const { origin: from = origin, "sec-fetch-site": site = "same-origin" } = headers;
    if (from !== origin || site !== "same-origin") throw forged();
    if (!secrets.isFormToken(uid, token)) throw forged();
  }

  async function showLogin(visit: Visit, interaction: Interaction, problem?: string): Promise<void> {
    const { uid } = interaction;
    const [face, code] = [await faceIn(visit, interaction), await codes.open(subjectOf(interaction))];
    const formToken = secrets.formToken(uid);
    show(
      visit.response,
      loginPage({ uid, formToken, origin, face, code, ...(problem === undefined ? {} : { problem }) }),
      problem === undefined ? 200 : 403,
    );
  }

  async function finishLogin(visit: Visit, interaction: Interaction, by: Signer): Promise<void> {
    const { provider, request, response, address } = visit;
    await journal.tell({ action: "POST /auth/login", owner: by.owner, target: null, address });
    if (interaction.session && interaction.session.accountId !== by.owner) {
      await forgetSession(provider, interaction);
      delete interaction.session;
      await interaction.persist();
    }
    const account = await authority.account(by.owner);
    if (!account) throw gone();
    // A sign-in is later than what was revoked in the same second.
    const ts = Math.floor(Math.max(clock.now(), lastRevoked(account, by.key) + 1000) / 1000);
    const login = { accountId: by.owner, amr: [by.key], ts, remember: true };
    await provider.interactionFinished(request, response, { login });
  }

  async function login(visit: Visit, uid: string, below: string | undefined): Promise<void> {
    const interaction = await interactionOf(visit, uid, "login");
    const { request, response, provider } = visit;
    const posted = request.method === "POST";
    if (below === "state" && !posted) {
      sendJson(response, 200, { state: await codes.state(uid) });
    } else if (below === "challenge" && posted) {
      fromOurPage(request, uid, request.headers["x-form-token"]);
      const { address } = jsonObject(request, visit.body);
      const face = await faceIn(visit, interaction);
      const scopes = knownScopes(interaction.params["scope"]);
      sendJson(response, 200, await signIn.challenge(uid, address, face, scopes));
    } else if (below !== undefined) {
      throw nothingHere();
    } else if (!posted) {
      await showLogin(visit, interaction);
    } else {
      const form = ourForm(visit, uid);
      if (form.get("decision") === "cancel") {
        await provider.interactionFinished(request, response, denied("Nobody signed in."));
        return;
      }
      const message = form.get("message")?.replaceAll("\r\n", "\n");
      const signature = form.get("signature");
      const by = await (message ? signIn.verify(uid, { message, signature }) : codes.take(uid)).catch(
        asProblem,
      );
      if (by === null) await showLogin(visit, interaction, "The code has not been signed yet.");
      else if (typeof by === "string") await showLogin(visit, interaction, by);
      else await finishLogin(visit, interaction, by);
    }
  }

  async function consent(visit: Visit, uid: string): Promise<void> {
    const interaction = await interactionOf(visit, uid, "consent");
    const { provider, request, response } = visit;
    const owner = interaction.session?.accountId ?? "";
    const account = await authority.account(owner);
    if (!account) throw gone();
    const scopes = grantable(interaction.params["scope"], scopesOf(account));
    if (request.method !== "POST") {
      const face = await faceIn(visit, interaction);
      const asked = knownScopes(interaction.params["scope"]);
      const withheld = asked.filter((scope) => !scopes.includes(scope));
      const formToken = secrets.formToken(uid);
      show(response, consentPage({ uid, formToken, origin, face, owner, scopes, withheld }), 200);
      return;
    }
    const decision = ourForm(visit, uid).get("decision");
    const clientId = String(interaction.params["client_id"]);
    const { address } = visit;
    const told = (action: string) => journal.tell({ action, owner, target: clientId, address });
    if (decision === "allow" && scopes.length > 0) {
      await told("POST /auth/consent (allow)");
      const before = interaction.grantId ? await provider.Grant.find(interaction.grantId) : undefined;
      const grant = before ?? new provider.Grant({ accountId: owner, clientId });
      grant.addResourceScope(authority.audience, scopes.join(" "));
      await provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } });
    } else if (decision === "switch") {
      await forgetSession(provider, interaction);
      await interaction.destroy();
      response.statusCode = 303;
      response.setHeader("location", `/oauth/authorize?${againQuery(interaction.params)}`);
      response.end();
    } else {
      await told("POST /auth/consent (deny)");
      await provider.interactionFinished(request, response, denied("The request was denied."));
    }
  }

  return { login, consent };
}

async function forgetSession(provider: Provider, { session }: Interaction): Promise<void> {
  const found = session && (await provider.Session.findByUid(session.uid));
  await found?.destroy();
}

/** The request as it was made first, without what asked for this very page. */
function againQuery(params: Interaction["params"]): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (name === "prompt") continue;
    for (const one of Array.isArray(value) ? value : [value])
      if (typeof one === "string") query.append(name, one);
  }
  return query.toString();
}

function denied(description: string): { error: string; error_description: string } {
  return { error: "access_denied", error_description: description };
}

function show(response: ServerResponse, page: Page, status: number): void {
  send(response, status, page.body, page.headers);
}

/** What a person can do something about is said on the page. */
function asProblem(error: unknown): string {
  if (error instanceof FormationError && !error.retryable && error.code !== "limit") {
    return [error.message, error.details.remedy].filter(Boolean).join(" ");
  }
  throw error;
}

function gone(): FormationError {
  return new FormationError("not_found", "This sign-in has ended, or it began in another browser.", {
    remedy: "Go back to the app and start again there.",
  });
}

function forged(): FormationError {
  return new FormationError("forbidden", "This form was not sent from its own page.", {
    remedy: "Go back to the app and start again there.",
  });
}
