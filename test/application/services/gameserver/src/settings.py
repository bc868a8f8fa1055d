"""The game's settings: importing this module fails if the environment lacks one of them."""

from pydantic import Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    DATABASE_URL: str
    JWT_SECRET: str = Field(min_length=8)
    ARIA_ENCRYPTION_KEY: str
    ADMIN_USERNAME: str
    ADMIN_PASSWORD: str


settings = Settings()
