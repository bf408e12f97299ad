"""Where studies live: SQLite on one machine, PostgreSQL for many. A password is never shown."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.engine import toolchain
from edgewright.errors import ConfigError, ToolchainMissing, UsageError

if TYPE_CHECKING:
    import optuna

STORAGE_VARIABLE = "EDGEWRIGHT_STORAGE"
PASSWORD_VARIABLE = "EDGEWRIGHT_STORAGE_PASSWORD"  # noqa: S105 - the name of a variable
HEARTBEAT_SECONDS = 30
RETRIES = 3
"""How often a trial is tried again whose worker ended without a word."""
_WAIT_SECONDS = 60
_POSTGRES = re.compile(r"^postgres(ql)?(\+\w+)?://")
_SECRET = re.compile(r"(?P<before>\w://[^\s/:@]*):[^\s@]*@")


def chosen(given: str, folder: Path) -> str:
    """Returns the URL of the storage: as given, else of the environment, else a file in `folder`.

    A password may stand in EDGEWRIGHT_STORAGE_PASSWORD, in PGPASSWORD or in ~/.pgpass instead.
    """
    return given or os.environ.get(STORAGE_VARIABLE, "") or f"sqlite:///{folder / 'study.db'}"


def shown(url: str) -> str:
    """Returns a text with every password in a URL replaced."""
    password = os.environ.get(PASSWORD_VARIABLE)
    hidden = _SECRET.sub(r"\g<before>:***@", url)
    return hidden.replace(password, "***") if password else hidden


@contextmanager
def nothing_told(url: str) -> Iterator[None]:
    """Turns what the database raises into an error that does not hold the password, its cause left behind.

    Raises:
        UsageError: It cannot be reached, or refuses.
    """
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        yield
    except (ArgumentError, NoSuchModuleError):
        hint = "sqlite:///study.db, or postgresql://user@host/database"
        raise UsageError(f"storage {shown(url)}: not a database that is known", hint=hint) from None
    except SQLAlchemyError as error:
        reason = shown(str(getattr(error, "orig", None) or error)).strip().splitlines()[0]
        hint = "is the server running, and does this user have the right to create tables in the database?"
        raise UsageError(f"storage {shown(url)}: {reason}", hint=hint) from None


@contextmanager
def open_storage(url: str, heartbeat: int = HEARTBEAT_SECONDS) -> Iterator[optuna.storages.RDBStorage]:
    """Opens the storage of studies, and makes its tables where there are none; its connections end with the context.

    A trial whose worker gives no sign of life for four heartbeats is taken as failed and queued again.

    Args:
        url: `sqlite:///file.db` or `postgresql://user@host/database`.
        heartbeat: Seconds between signs of life.

    Raises:
        ToolchainMissing: Optuna is not installed.
        UsageError: The database cannot be reached.
    """
    toolchain.need("tuning", "tune")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    address, arguments = _address(url)
    with nothing_told(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(
            address,
            engine_kwargs={"connect_args": arguments, "pool_pre_ping": True},
            heartbeat_interval=heartbeat,
            grace_period=4 * heartbeat,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
        )
    try:
        with nothing_told(url):
            yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _address(url: str) -> tuple[str, dict[str, Any]]:
    """Returns the URL as SQLAlchemy takes it, with the driver we ship and without the password, and that beside it."""
    if url.startswith("sqlite:"):
        Path(url.split("///", 1)[-1]).parent.mkdir(parents=True, exist_ok=True)
        return url, {"timeout": _WAIT_SECONDS}
    if not _POSTGRES.match(url):
        raise ConfigError(f"storage {shown(url)}", hint="sqlite:///study.db, or postgresql://user@host/database")
    _need_driver()
    from sqlalchemy.engine import make_url

    with nothing_told(url):
        parsed = make_url(_POSTGRES.sub("postgresql+psycopg://", url))
    password = parsed.password or os.environ.get(PASSWORD_VARIABLE)
    bare = parsed._replace(password=None).render_as_string(hide_password=False)
    return bare, {"connect_timeout": _WAIT_SECONDS, **({"password": password} if password else {})}


def _need_driver() -> None:
    """SQLAlchemy loads the driver by its name in the URL; a missing one is said with the way to get it."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        message = f"a study in PostgreSQL needs psycopg, which cannot be imported: {error}"
        raise ToolchainMissing(message, hint=toolchain.install_line("tune")) from error
