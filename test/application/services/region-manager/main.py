"""A region manager like the game's: uses asyncpg, and as the superuser creates a database and a role for each region."""

import asyncio
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import asyncpg


async def make_region(name):
    admin = await asyncpg.connect(
        host=os.environ["DB_HOST"],
        port=int(os.environ["DB_PORT"]),
        user=os.environ["DB_SUPERUSER"],
        password=os.environ["DB_SUPERUSER_PASSWORD"],
        database="postgres",
    )
    try:
        await admin.execute(f"CREATE USER {name}_admin WITH PASSWORD 'regional'")
        await admin.execute(f"CREATE DATABASE {name} OWNER {name}_admin")
    finally:
        await admin.close()


async def look():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        return await connection.fetchval("SELECT current_database()")
    finally:
        await connection.close()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/regions/"):
            asyncio.run(make_region(self.path.rsplit("/", 1)[1]))
        database = asyncio.run(look())
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"database": database}).encode())

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", 8080), Handler).serve_forever()
