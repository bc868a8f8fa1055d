"""ships

Revision ID: 0002ships
"""

from alembic import op

revision: str = "0002ships"
down_revision: str = "0001first"


def upgrade():
    op.execute("CREATE TABLE ships (id serial PRIMARY KEY, name text NOT NULL, owner_id uuid REFERENCES users)")
    # A later revision changes a table of the first.
    op.execute("ALTER TABLE users ADD COLUMN subscription_tier varchar(50)")


def downgrade():
    op.execute("ALTER TABLE users DROP COLUMN subscription_tier")
    op.execute("DROP TABLE ships")
