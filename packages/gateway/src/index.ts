// The doors: the tools over MCP, for both protocol eras.
export {};
