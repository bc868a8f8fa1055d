"""Runs inside a one-off container: reads its job, tells the plan, waits for the word, then lets Alembic do the work.

Lines that begin with MARK are messages for the process that started the container; everything else is the application's own output.
The job comes through standard input, as it holds passwords; when that input ends, so does this process, and PostgreSQL
rolls back what it was doing.
"""

import json
import os
import sys
import threading
import time
import traceback

MARK = "\x1e"
TEXT_LIMIT = 4000
DEFAULT_PORT = 5432
# Values that no message may contain.
secrets = []


class OtherDatabase(Exception):
    """The project connects to a database that is not the one to migrate."""


def hide(text):
    for value in secrets:
        text = text.replace(value, "***")
    return text


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


def settings_class(error):
    """The class of settings, read from the environment, that a validation error of pydantic's is about; or None."""
    model = getattr(error, "model", None)
    bases = [getattr(sys.modules.get(name), "BaseSettings", None) for name in ("pydantic_settings", "pydantic.env_settings", "pydantic.v1.env_settings")]
    bases = [base for base in bases if isinstance(base, type)]
    if isinstance(model, type):
        return model if issubclass(model, tuple(bases)) else None
    found, waiting = None, list(bases)
    while waiting:
        known = waiting.pop()
        waiting.extend(known.__subclasses__())
        title = getattr(known, "model_config", {}).get("title") if hasattr(known, "model_config") else None
        if getattr(error, "title", None) in (known.__name__, title) and known not in bases:
            found = known
    return found


def variable_name(settings, location):
    """The variable that a field of settings is read from."""
    config = getattr(settings, "model_config", None)
    name = str(location[0])
    if config is None:
        field = next((f for f in settings.__fields__.values() if name in (f.name, f.alias)), None)
        names = field.field_info.extra.get("env_names") if field else None
        return sorted(names)[0].upper() if names else name.upper()
    parts = [str(part) for part in location] if config.get("env_nested_delimiter") else [name]
    name = (config.get("env_nested_delimiter") or "").join(parts)
    # pydantic names a field by its alias where it has one, and that is the variable's whole name.
    if location[0] in settings.model_fields:
        name = (config.get("env_prefix") or "") + name
    return name if config.get("case_sensitive") else name.upper()


def problems_of(error):
    """What a validation error of pydantic's says, without the values that it would quote; None for any other error."""
    if type(error).__name__ != "ValidationError" or not callable(getattr(error, "errors", None)):
        return None
    try:
        return error.errors(include_url=False, include_context=False, include_input=False)
    except TypeError:
        return error.errors()


def is_missing(problem):
    return problem["type"] in ("missing", "value_error.missing")


def variables_of(error):
    """The variables that the application lacks or refuses, as far as the error tells; an empty list for any other error."""
    while error is not None:
        if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
            frames = traceback.extract_tb(error.__traceback__)
            if frames and os.path.basename(frames[-1].filename) in ("os.py", "<frozen os>"):
                return [{"name": error.args[0], "problem": None}]
        problems = problems_of(error)
        settings = settings_class(error) if problems else None
        if settings is not None:
            return [
                {
                    "name": variable_name(settings, problem["loc"] or ("?",)),
                    "problem": None if is_missing(problem) else hide(problem["msg"])[:TEXT_LIMIT],
                }
                for problem in problems
            ]
        error = error.__cause__ or error.__context__
    return []


def text_of(error):
    problems = problems_of(error)
    if problems is None:
        return str(error).strip()
    return "; ".join(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in problems)


def explain(error, folder):
    """The error in parts. Bound values and the values of settings stay out of it: they may be secrets."""
    original = getattr(error, "orig", None)
    statement = getattr(error, "statement", None)
    text = text_of(original if original is not None else error) or type(error).__name__
    return {
        "kind": type(error).__name__,
        "message": hide(text)[:TEXT_LIMIT],
        "statement": hide(statement)[:TEXT_LIMIT] if statement else None,
        "place": where(error, folder),
        "variables": variables_of(error),
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
    """The process that started this is gone when the input ends, and then nothing would revoke the temporary grant of the run."""
    while sys.stdin.readline():
        pass
    end(3)


def announce_steps():
    """Tells each revision when it begins. The logger prints it at every level."""
    from alembic.runtime import migration

    usual = migration.log.info

    def info(message, *values, **more):
        script = getattr(values[0], "revision", None) if values else None
        if message == "Running %s" and script is not None:
            tell(step=describe(script))
        usual(message, *values, **more)

    migration.log.info = info


def watch_connections(url):
    """Refuses connections to any other PostgreSQL database: with the application's environment come the URLs of others."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine, make_url

    expected = make_url(url)

    @event.listens_for(Engine, "do_connect")
    def check(dialect, _record, _arguments, parameters):
        if dialect.name != "postgresql":
            return
        host = parameters.get("host") or os.environ.get("PGHOST")
        port = parameters.get("port") or os.environ.get("PGPORT") or DEFAULT_PORT
        database = parameters.get("database") or parameters.get("dbname") or os.environ.get("PGDATABASE")
        if (host, str(port), database) != (expected.host, str(expected.port or DEFAULT_PORT), expected.database):
            raise OtherDatabase(f"{host}:{port}/{database}")


def set_environment(variables):
    """As if the process had been started with them, but where neither ps nor docker inspect shows them."""
    os.environ.update(variables)
    # Python has read this one already.
    sys.path.extend(entry for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry)
    if "TZ" in variables:
        time.tzset()


def main():
    job = json.loads(sys.stdin.readline())
    folder, url = job["folder"], job["url"]
    secrets.extend(job["secrets"])
    os.chdir(folder)
    sys.path.insert(0, folder)
    set_environment({**job["variables"], "DATABASE_URL": url})
    try:
        from alembic.config import CommandLine, Config
        from alembic.script import ScriptDirectory

        watch_connections(url)
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
