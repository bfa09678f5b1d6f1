// The official MCP SDK for JavaScript against our server.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const require = createRequire(process.env.OXIOS_NODE_MODULES + "/");
const load = (name) => import(pathToFileURL(require.resolve("@modelcontextprotocol/sdk/" + name)));
const { Client } = await load("client/index.js");
const { StreamableHTTPClientTransport } = await load("client/streamableHttp.js");

const transport = new StreamableHTTPClientTransport(new URL(process.env.OXIOS_URL + "/mcp"), {
  requestInit: { headers: { Authorization: "Bearer " + process.env.OXIOS_KEY } },
});
const client = new Client({ name: "test", version: "1" });
await client.connect(transport);
console.log("server", client.getServerVersion().name);
await client.ping();
console.log("tools", (await client.listTools()).tools.map((tool) => tool.name).join(" "));
const first = await client.callTool({ name: "ask", arguments: { content: "remember the router is grey" } });
const { session_id } = first.structuredContent;
const again = await client.callTool({ name: "ask", arguments: { content: "Hello", session_id } });
console.log("same session", again.structuredContent.session_id === session_id, again.content[0].text.length > 0);
const found = await client.callTool({ name: "search_memory", arguments: { query: "router" } });
console.log("memory", found.structuredContent.entries.length, found.content[0].text);
const listed = await client.callTool({ name: "list_sessions", arguments: {} });
console.log("sessions", listed.structuredContent.total);
const empty = await client.callTool({ name: "ask", arguments: { content: " " } });
console.log("refused", empty.isError);
await client.close();
