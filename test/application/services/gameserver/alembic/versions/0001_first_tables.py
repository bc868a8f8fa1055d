"""first tables

Revision ID: 0001first
"""

from alembic import op

revision = "0001first"
down_revision = None


def upgrade():
    op.execute("SET session_replication_role = 'replica'")
    op.execute("CREATE TYPE account_status AS ENUM ('active', 'banned')")
    op.execute("""
        CREATE TABLE users (
            id uuid PRIMARY KEY,
            username varchar(50) NOT NULL UNIQUE,
            email varchar(255) UNIQUE,
            is_active boolean NOT NULL,
            is_admin boolean NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            last_login timestamptz,
            deleted boolean NOT NULL
        )""")
    op.execute("""
        CREATE TABLE admin_credentials (
            user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
            password_hash varchar(255) NOT NULL,
            last_password_change timestamptz NOT NULL DEFAULT now()
        )""")
    op.execute("""
        CREATE TABLE languages (
            id serial PRIMARY KEY,
            code varchar(10) NOT NULL UNIQUE,
            name varchar(100) NOT NULL,
            native_name varchar(100) NOT NULL,
            direction varchar(3) NOT NULL,
            is_active boolean NOT NULL,
            completion_percentage integer,
            created_at timestamp DEFAULT now()
        )""")
    op.execute("""
        CREATE TABLE translation_namespaces (
            id serial PRIMARY KEY,
            name varchar(50) NOT NULL UNIQUE,
            description text,
            application varchar(50),
            is_active boolean NOT NULL
        )""")
    op.execute("CREATE TABLE admin_action_logs (id serial PRIMARY KEY, action text NOT NULL)")
    op.execute("REVOKE UPDATE, DELETE ON admin_action_logs FROM sectorwars_app")
    op.execute("SET session_replication_role = 'origin'")


def downgrade():
    for table in ("admin_action_logs", "translation_namespaces", "languages", "admin_credentials", "users"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP TYPE account_status")
