"""The official MCP SDK for Python against our server."""
import asyncio
import os

from mcp import ClientSession
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client


async def main():
    headers = {"Authorization": "Bearer " + os.environ["OXIOS_KEY"]}
    async with create_mcp_http_client(headers=headers) as http:
        async with streamable_http_client(os.environ["OXIOS_URL"] + "/mcp", http_client=http) as streams:
            async with ClientSession(streams[0], streams[1]) as session:
                print("server", (await session.initialize()).server_info.name)
                await session.send_ping()
                print("tools", *[tool.name for tool in (await session.list_tools()).tools])
                first = (await session.call_tool("ask", {"content": "remember the router is grey"})).structured_content
                again = (await session.call_tool("ask", {"content": "Hello", "session_id": first["session_id"]})).structured_content
                print("same session", again["session_id"] == first["session_id"], len(again["reply"]) > 0)
                found = await session.call_tool("search_memory", {"query": "router"})
                print("memory", len(found.structured_content["entries"]), found.content[0].text)
                print("sessions", (await session.call_tool("list_sessions", {})).structured_content["total"])
                print("refused", (await session.call_tool("ask", {"content": " "})).is_error)


asyncio.run(main())
