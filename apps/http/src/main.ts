// `formation-mcp-http`: the HTTP server.

process.stdout.write("formation-mcp-http\n");
