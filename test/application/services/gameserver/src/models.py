"""The models that Alembic's environment imports."""

from sqlalchemy import Column, Integer, String
from sqlalchemy.orm import declarative_base

from src.settings import settings

Base = declarative_base()
# As in the game, the models cannot be imported without the settings.
ADMINISTRATOR = settings.ADMIN_USERNAME


class Ship(Base):
    __tablename__ = "ships"
    id = Column(Integer, primary_key=True)
    name = Column(String, nullable=False)
