"""Connects once, records its database in /tmp/seen, and is healthy as soon as that file exists."""

import asyncio
import os
import time

import asyncpg


async def look():
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        return await connection.fetchval("SELECT current_user || ' in ' || current_database()")
    finally:
        await connection.close()


seen = asyncio.run(look())
print(seen, flush=True)
with open("/tmp/seen", "w") as file:
    file.write(seen)
while True:
    time.sleep(3600)
