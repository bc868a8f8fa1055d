"""Alembic's environment like the game's: the URL comes from the settings, the metadata from the models."""

from logging.config import fileConfig

from alembic import context
from sqlalchemy import create_engine, pool

from src.models import Base
from src.settings import settings

config = context.config
fileConfig(config.config_file_name)
# As in the game, a percent sign in the password breaks this.
config.set_main_option("sqlalchemy.url", settings.DATABASE_URL)

engine = create_engine(config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
