// A typical host application: it knows only the URL of a server, uses the SDK client with its own OAuth
// provider, opens the system browser when asked, and waits on loopback for the code.

import { Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from "@modelcontextprotocol/client";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { Answer, Peer, Structured } from "../server.ts";
import { type Loopback, serveLoopback } from "./loopback.ts";

/**
 * What a person does in the browser: opens the URL, signs in, consents, until the browser is sent back to the
 * host.
 */
export type Person = (url: URL) => Promise<void>;

interface Tokens {
  access_token: string;
  token_type: string;
  refresh_token?: string;
  scope?: string;
}
interface Registered {
  client_id: string;
  client_secret?: string;
}

/** The OAuth provider of a host, in the form that SDK 1.x and 2.x both accept. */
export class HostProvider {
  readonly #back: Loopback;
  readonly #renews: boolean;
  #metadataUrl: string | undefined;
  /** The URLs that the browser was sent to. */
  readonly asked: URL[] = [];
  /** The requests to the redirect URI, oldest first. */
  readonly answers: URLSearchParams[];
  /** Every token pair that it received. */
  readonly taken: Tokens[] = [];
  registered: Registered | undefined;
  #verifier = "";
  #discovered: unknown;

  private constructor(back: Loopback, answers: URLSearchParams[], renews: boolean) {
    this.#back = back;
    this.#renews = renews;
    this.answers = answers;
  }

  /** @param renews whether it keeps refresh tokens; a host without them asks a person each time. */
  static async open({ renews = true } = {}): Promise<HostProvider> {
    const answers: URLSearchParams[] = [];
    const back = await serveLoopback((request, response) => {
      const url = new URL(request.url ?? "/", "http://host");
      if (url.pathname === "/callback") answers.push(url.searchParams);
      response
        .setHeader("content-type", "text/html")
        .end("<title>Back</title><p>You can go back to the program.");
    });
    return new HostProvider(back, answers, renews);
  }

  /**
   * Uses the URL of its metadata document as its client id (CIMD); otherwise the client registers itself
   * (DCR).
   */
  publishedAs(metadataUrl: string): void {
    this.#metadataUrl = metadataUrl;
  }

  get redirectUrl(): string {
    return `${this.#back.url}/callback`;
  }
  get clientMetadataUrl(): string | undefined {
    return this.#metadataUrl;
  }
  get clientMetadata() {
    return {
      client_name: "A host of the tests",
      redirect_uris: [this.redirectUrl],
      grant_types: ["authorization_code", ...(this.#renews ? ["refresh_token"] : [])],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    };
  }
  state(): string {
    return `state-${this.asked.length}`;
  }
  clientInformation(): Registered | undefined {
    return this.registered;
  }
  saveClientInformation(registered: Registered): void {
    this.registered = registered;
  }
  tokens(): Tokens | undefined {
    return this.taken.at(-1);
  }
  saveTokens(tokens: Tokens): void {
    this.taken.push(tokens);
  }
  saveDiscoveryState(state: unknown): void {
    this.#discovered = state;
  }
  discoveryState(): unknown {
    return this.#discovered;
  }
  redirectToAuthorization(url: URL): void {
    this.asked.push(url);
  }
  saveCodeVerifier(verifier: string): void {
    this.#verifier = verifier;
  }
  codeVerifier(): string {
    return this.#verifier;
  }
  close(): Promise<void> {
    return this.#back.close();
  }
}

interface Sdk {
  connect(): Promise<void>;
  finish(answer: URLSearchParams): Promise<void>;
  tools(): Promise<string[]>;
  call(tool: string, input: Structured, onProgress?: (message: string) => void): Promise<unknown>;
  close(): Promise<void>;
}

function version2(url: string, provider: HostProvider): Sdk {
  const fresh = () => new HttpV2(new URL(url), { authProvider: provider as never });
  let transport = fresh();
  const client = new ClientV2({ name: "host", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  return {
    async connect() {
      transport = fresh();
      await client.connect(transport);
    },
    finish: (answer) => transport.finishAuth(answer),
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    call: (name, input, onProgress) =>
      client.callTool(
        { name, arguments: input },
        { timeout: 60_000, ...(onProgress ? { onprogress: ({ message = "" }) => onProgress(message) } : {}) },
      ),
    close: () => client.close(),
  };
}

function version1(url: string, provider: HostProvider): Sdk {
  const fresh = () => new HttpV1(new URL(url), { authProvider: provider as never });
  let transport = fresh();
  const client = new ClientV1({ name: "host", version: "1.0.0" });
  return {
    async connect() {
      transport = fresh();
      await client.connect(transport as never);
    },
    finish: (answer) => transport.finishAuth(answer.get("code") ?? ""),
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    call: (name, input, onProgress) =>
      client.callTool({ name, arguments: input }, undefined, {
        timeout: 60_000,
        ...(onProgress ? { onprogress: ({ message = "" }) => onProgress(message) } : {}),
      }),
    close: () => client.close(),
  };
}

/**
 * A connected host, after a person has signed in. If the server later asks for more scopes, the person is
 * sent to the browser again, and the call is repeated once.
 */
export async function connectHost(
  line: "v1" | "v2",
  url: string,
  provider: HostProvider,
  person: Person,
): Promise<Peer> {
  const sdk = line === "v2" ? version2(url, provider) : version1(url, provider);
  async function authorized<T>(action: () => Promise<T>): Promise<T> {
    const asked = provider.asked.length;
    try {
      return await action();
    } catch (error) {
      const to = provider.asked[asked];
      if (!to) throw error;
      const before = provider.answers.length;
      await person(to);
      const answer = provider.answers[before];
      if (!answer) throw new Error("The browser never came back to the host.", { cause: error });
      const sent = to.searchParams.get("state");
      if (answer.get("state") !== sent) throw new Error(`The state ${answer.get("state")} is not ${sent}.`);
      await sdk.finish(answer);
      return action();
    }
  }
  await authorized(() => sdk.connect());
  return {
    name: `SDK ${line} over HTTP`,
    tools: () => authorized(() => sdk.tools()),
    call: async (tool, input, onProgress) =>
      answerOf(await authorized(() => sdk.call(tool, input, onProgress))),
    close: async () => {
      await sdk.close();
      await provider.close();
    },
  };
}

/** The result of a tool, from either client. */
export function answerOf(result: unknown): Answer {
  const { isError, structuredContent, content } = result as {
    isError?: boolean;
    structuredContent?: Structured;
    content?: { text?: string }[];
  };
  return {
    isError: isError === true,
    structured: structuredContent ?? {},
    text: (content ?? []).map(({ text = "" }) => text).join("\n"),
  };
}
