"""Clients of a database: repeat a statement until standard input ends, then print as JSON what each of them saw.

The first line of standard input is the job: {"url": ..., "clients": {DRIVER: COUNT}, "statement": ..., "pause": SECONDS}. The statement may
contain :n, an integer. Drivers are psycopg2, psycopg and asyncpg through SQLAlchemy 2, with its defaults, and asyncpg-pool without it.
"""

import asyncio
import json
import sys
import threading
import time

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

job = json.loads(sys.stdin.readline())
over = threading.Event()
started = threading.Semaphore(0)


class Client:
    """What one client saw: queries, failures, the longest query, and the seconds since the last failure."""

    def __init__(self, driver):
        self.seen = {"driver": driver, "queries": 0, "failures": [], "longest": 0.0, "sinceFailure": None}
        self.number = 0
        self.failed = None

    def next(self):
        self.number = self.number % 100 + 1
        self.began = time.monotonic()
        return {"n": self.number}

    def note(self, failure=None):
        seen = self.seen
        seen["queries"] += 1
        seen["longest"] = max(seen["longest"], time.monotonic() - self.began)
        if failure is not None:
            self.failed = time.monotonic()
            seen["failures"].append(f"{type(failure).__name__}: {failure}"[:300])
        if seen["queries"] == 1:
            started.release()


def url(driver):
    return job["url"].replace("postgresql://", f"postgresql+{driver}://")


def run_sync(client, engine):
    statement = text(job["statement"])
    while not over.is_set():
        try:
            with engine.begin() as connection:
                connection.execute(statement, client.next()).all()
            client.note()
        except Exception as failure:
            client.note(failure)
        over.wait(job["pause"])


async def run_async(client, engine):
    statement = text(job["statement"])
    while not over.is_set():
        try:
            async with engine.begin() as connection:
                (await connection.execute(statement, client.next())).all()
            client.note()
        except Exception as failure:
            client.note(failure)
        await asyncio.sleep(job["pause"])


async def run_pool(client, pool):
    statement = job["statement"].replace(":n", "$1")
    while not over.is_set():
        try:
            number = client.next()["n"]
            async with pool.acquire() as connection:
                await connection.fetch(statement, *([number] if "$1" in statement else []))
            client.note()
        except Exception as failure:
            client.note(failure)
        await asyncio.sleep(job["pause"])


async def run_all_async(clients, pooled):
    import asyncpg

    tasks = []
    if clients:
        engine = create_async_engine(url("asyncpg"), pool_size=len(clients))
        tasks += [run_async(client, engine) for client in clients]
    if pooled:
        pool = await asyncpg.create_pool(job["url"], min_size=len(pooled), max_size=len(pooled))
        tasks += [run_pool(client, pool) for client in pooled]
    await asyncio.gather(*tasks)


def main():
    groups = {driver: [Client(driver) for _ in range(count)] for driver, count in job["clients"].items()}
    threads = []
    for driver in ("psycopg2", "psycopg"):
        clients = groups.get(driver, [])
        if clients:
            engine = create_engine(url(driver), pool_size=len(clients))
            threads += [threading.Thread(target=run_sync, args=(client, engine)) for client in clients]
    asynchronous = (groups.get("asyncpg", []), groups.get("asyncpg-pool", []))
    if any(asynchronous):
        threads.append(threading.Thread(target=lambda: asyncio.run(run_all_async(*asynchronous))))
    for thread in threads:
        thread.start()
    everyone = [client for clients in groups.values() for client in clients]
    for _ in everyone:
        started.acquire()
    print("started")
    sys.stdin.read()
    over.set()
    for client in everyone:
        if client.failed is not None:
            client.seen["sinceFailure"] = time.monotonic() - client.failed
    for thread in threads:
        thread.join()
    print(json.dumps([client.seen for client in everyone]))


main()
