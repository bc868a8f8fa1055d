"""A gameserver like the game's: migrates when it starts, answers /health through both of its engines, and logs users in."""

import asyncio
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from alembic import command
from alembic.config import Config
from passlib.context import CryptContext
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

URL = os.environ["DATABASE_URL"]
POOL = {
    "pool_size": int(os.environ.get("SQLALCHEMY_POOL_SIZE", "5")),
    "max_overflow": int(os.environ.get("SQLALCHEMY_MAX_OVERFLOW", "10")),
    "pool_timeout": int(os.environ.get("SQLALCHEMY_POOL_TIMEOUT", "30")),
    "pool_pre_ping": True,
}
# Only argon2: passlib cannot identify a hash of another scheme.
PASSWORDS = CryptContext(schemes=["argon2"])
CREDENTIALS = text("SELECT password_hash FROM admin_credentials c JOIN users u ON u.id = c.user_id WHERE username = :name")
LOOK = text("SELECT current_user, current_database(), (SELECT version_num FROM alembic_version), (SELECT count(*) FROM languages)")

os.chdir("/app")
command.upgrade(Config("alembic.ini"), "head")
engine = create_engine(URL, **POOL)


async def look_async():
    # The game derives both drivers' URLs from one URL like this.
    asynchronous = create_async_engine(URL.replace("postgresql://", "postgresql+asyncpg://"), **POOL)
    async with asynchronous.connect() as connection:
        row = (await connection.execute(LOOK)).one()
    await asynchronous.dispose()
    return list(row)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        with engine.connect() as connection:
            row = list(connection.execute(LOOK).one())
        said = {"sync": row, "async": asyncio.run(look_async()), "pool": [POOL["pool_size"], POOL["max_overflow"], POOL["pool_timeout"]]}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def do_POST(self):
        login = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with engine.connect() as connection:
            stored = connection.execute(CREDENTIALS, {"name": login["name"]}).scalar()
        try:
            status = 200 if stored and PASSWORDS.verify(login["password"], stored) else 401
        except ValueError:
            status = 400
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", 8080), Handler).serve_forever()
