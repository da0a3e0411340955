// A client of the ancestor, the first Formation MCP server, by its OpenAPI document and its own client. Only
// 200 with the envelope's status is success; operations are polled for data.status and data.result.

export class AncestorError extends Error {
  readonly status: number;
  readonly response: Record<string, unknown>;

  constructor(status: number, response: Record<string, unknown>) {
    super(`HTTP ${status}: ${JSON.stringify(response)}`);
    this.status = status;
    this.response = response;
  }
}

type Json = Record<string, unknown>;

const STATES = ["queued", "running", "completed", "failed", "cancelled"];

export class AncestorClient {
  readonly #base: string;
  readonly #fetch: (request: Request) => Promise<Response>;
  #token: string | undefined;

  constructor(base: string, fetch: (request: Request) => Promise<Response>) {
    this.#base = base;
    this.#fetch = fetch;
  }

  async login(address: string, signed_message: string, signature: string): Promise<Json> {
    const data = await this.#send("POST", "/api/auth/login", { address, signed_message, signature });
    if (typeof data["token"] !== "string") throw new Error("no token");
    this.#token = data["token"];
    return data;
  }

  async validateToken(): Promise<boolean> {
    try {
      await this.#send("POST", "/api/auth/validate", { token: this.#token });
      return true;
    } catch {
      return false;
    }
  }

  async listTools(category?: string): Promise<Json[]> {
    const query = category === undefined ? "" : `?category=${encodeURIComponent(category)}`;
    return (await this.#send("GET", `/api/tools${query}`))["tools"] as Json[];
  }

  async executeTool(tool: string, parameters: Json, context?: Record<string, string>): Promise<Json> {
    return this.#send("POST", `/api/tools/${tool}`, { parameters, ...(context ? { context } : {}) });
  }

  async operation(id: string): Promise<Json> {
    return this.#send("GET", `/api/operations/${id}`);
  }

  async operations(userId?: string): Promise<Json[]> {
    const query = userId === undefined ? "" : `?user_id=${encodeURIComponent(userId)}`;
    return (await this.#send("GET", `/api/operations${query}`))["operations"] as Json[];
  }

  async waitForOperation(id: string, seconds = 45): Promise<Json> {
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      const { status, result, error, progress } = await this.operation(id);
      if (!STATES.includes(status as string)) throw new Error(`unknown status ${String(status)}`);
      if (progress !== null && typeof progress !== "number") throw new Error("progress is no number");
      if (status === "completed") return result as Json;
      if (status === "failed" || status === "cancelled")
        throw new Error(`operation ${status}: ${String(error)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("the operation did not end");
  }

  async #send(method: string, path: string, json?: Json): Promise<Json> {
    const response = await this.#fetch(
      new Request(`${this.#base}${path}`, {
        method,
        headers: {
          ...(this.#token === undefined ? {} : { Authorization: `Bearer ${this.#token}` }),
          ...(json === undefined ? {} : { "Content-Type": "application/json" }),
        },
        ...(json === undefined ? {} : { body: JSON.stringify(json) }),
      }),
    );
    const body = (await response.json()) as Json;
    if (response.status !== 200) throw new AncestorError(response.status, body);
    if (body["status"] !== "success") throw new AncestorError(response.status, body);
    return body["data"] as Json;
  }
}
