"""Runs inside a one-off container: reads its job, tells the plan, waits for the word, then lets Alembic do the work.

Lines that begin with MARK are messages for whoever started the container; everything else is the application's own output.
The job comes through standard input, as it holds a password; when that input ends, so does this process, and PostgreSQL
rolls back what it was doing.
"""

import json
import os
import sys
import threading
import traceback

MARK = "\x1e"
TEXT_LIMIT = 4000


def tell(**message):
    sys.stdout.flush()
    # A line of its own, whatever the application printed before.
    os.write(1, f"\n{MARK}{json.dumps(message)}\n".encode())


def end(code):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def where(error, folder):
    """The innermost place in the project's own files."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.relpath(error.filename, folder)}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(folder + os.sep):
            return f"{os.path.relpath(frame.filename, folder)}:{frame.lineno}"
    return None


def explain(error, folder):
    """The error in parts. Bound values stay out of it: they may be secrets."""
    original = getattr(error, "orig", None)
    statement = getattr(error, "statement", None)
    text = str(original if original is not None else error).strip() or type(error).__name__
    return {
        "kind": type(error).__name__,
        "message": text[:TEXT_LIMIT],
        "statement": statement[:TEXT_LIMIT] if statement else None,
        "place": where(error, folder),
    }


def describe(script):
    return {"id": script.revision, "title": script.doc}


def plan(directory, current, wanted):
    """The way from the database's revision to the wanted one: upgrades, or else downgrades, in the order in which they run."""
    from alembic.util import CommandError

    heads = list(directory.get_heads())
    found = {"heads": heads, "wanted": None, "unknown": None, "why": None, "direction": "none", "steps": []}
    if current is not None:
        try:
            known = directory.get_revision(current)
        except CommandError:
            known = None
        # Alembic takes the beginning of a name for the name.
        if known is None or known.revision != current:
            return {**found, "unknown": "current"}
    if not heads or len(heads) > 1 and wanted in ("head", "heads"):
        return found
    try:
        target = directory.get_revision(wanted)
    except CommandError as error:
        return {**found, "unknown": "wanted", "why": str(error.__cause__ or error)}
    target = None if target is None else target.revision
    found["wanted"] = target
    if target == current:
        return found

    def between(upper, lower):
        return [describe(script) for script in directory.iterate_revisions(upper, lower or "base")]

    ancestors = {s.revision for s in directory.iterate_revisions(target, "base")} if target else set()
    if current is None or current in ancestors:
        return {**found, "direction": "up", "steps": between(target, current)[::-1]}
    descendants_of_target = target is None or target in {s.revision for s in directory.iterate_revisions(current, "base")}
    if descendants_of_target:
        return {**found, "direction": "down", "steps": between(current, target)}
    return {**found, "unknown": "way"}


def watch_input():
    """Whoever started this is gone when the input ends; then nobody would take back what was lent for the run."""
    while sys.stdin.readline():
        pass
    end(3)


def announce_steps():
    """Tells each revision when it begins. The logger is told whatever its level is."""
    from alembic.runtime import migration

    usual = migration.log.info

    def info(message, *values, **more):
        script = getattr(values[0], "revision", None) if values else None
        if message == "Running %s" and script is not None:
            tell(step=describe(script))
        usual(message, *values, **more)

    migration.log.info = info


def main():
    job = json.loads(sys.stdin.readline())
    folder, url = job["folder"], job["url"]
    os.chdir(folder)
    sys.path.insert(0, folder)
    os.environ["DATABASE_URL"] = url
    try:
        from alembic.config import CommandLine, Config
        from alembic.script import ScriptDirectory

        directory = ScriptDirectory.from_config(Config("alembic.ini"))
        found = plan(directory, job["current"], job["wanted"])
    except BaseException as error:
        tell(failed={**explain(error, folder), "phase": "plan"})
        end(1)
    tell(plan=found)
    if sys.stdin.readline().strip() != "go":
        end(0)
    threading.Thread(target=watch_input, daemon=True).start()

    class Line(CommandLine):
        def run_cmd(self, config, options):
            config.set_main_option("sqlalchemy.url", url)
            super().run_cmd(config, options)

    try:
        announce_steps()
        command = "downgrade" if found["direction"] == "down" else "upgrade"
        wanted = found["wanted"] or "base"
        Line(prog="alembic").main(["--raiseerr", "-c", "alembic.ini", *job["arguments"], command, wanted])
    except BaseException as error:
        tell(failed={**explain(error, folder), "phase": "run"})
        end(1)
    tell(done=True)
    end(0)


main()
