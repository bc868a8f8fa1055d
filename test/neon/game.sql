-- A customer's objects in such a database, in addition to the small source of the tests.
CREATE TABLE messages (id integer PRIMARY KEY, author text NOT NULL DEFAULT current_user, body text NOT NULL);
INSERT INTO messages (id, author, body) SELECT i, 'pilot ' || i, 'message ' || i FROM generate_series(1, 300) i;
-- Without BYPASSRLS, even the owner sees no row.
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE messages FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON messages USING (author = current_user);
-- Names that sort differently by bytes and by a language's rules.
CREATE TABLE ships (name text PRIMARY KEY, class text NOT NULL);
INSERT INTO ships SELECT n || i, 'class ' || i % 7 FROM generate_series(1, 200) i, unnest('{Zebra,apple,Äther,éclair,_under,a-b,ab,A B}'::text[]) n;
CREATE INDEX ships_class_name ON ships (class, name);
CREATE TABLE accounts (id integer PRIMARY KEY, credits bigint NOT NULL);
INSERT INTO accounts SELECT i, 1000 FROM generate_series(1, 500) i;
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('a7c3e91b04d2');
