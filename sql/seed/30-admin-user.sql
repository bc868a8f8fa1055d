-- needs: users, admin_credentials
-- The first administrator. The password is generated and passed to this script as a hash; an existing password is kept.
INSERT INTO users (id, username, is_active, is_admin, deleted)
VALUES (gen_random_uuid(), :'admin_name', true, true, false)
ON CONFLICT (username) DO NOTHING;

INSERT INTO admin_credentials (user_id, password_hash)
SELECT id, :'admin_password_hash' FROM users WHERE username = :'admin_name'
ON CONFLICT (user_id) DO NOTHING;
