"""ships

Revision ID: 0002ships
"""

from alembic import op

from src.models import Ship

revision: str = "0002ships"
down_revision: str = "0001first"


def upgrade():
    op.execute(f"CREATE TABLE {Ship.__tablename__} (id serial PRIMARY KEY, name text NOT NULL, owner_id uuid REFERENCES users)")
    # A later revision changes a table of the first.
    op.execute("ALTER TABLE users ADD COLUMN subscription_tier varchar(50)")


def downgrade():
    op.execute("ALTER TABLE users DROP COLUMN subscription_tier")
    op.execute("DROP TABLE ships")
