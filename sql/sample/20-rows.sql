-- About 230,000 rows, the same in every run except for random identifiers.
SELECT setseed(0.5);
SET timezone = 'UTC';
-- The rows are consistent by construction, so checking each reference would only take time.
SET session_replication_role = replica;
INSERT INTO alembic_version VALUES ('a7c3e91b04d2');
INSERT INTO galaxies (name, settings) SELECT 'Galaxy ' || g, json_build_object('turns', g * 100, 'note', 'spaces   kept') FROM generate_series(1, 3) g;
INSERT INTO regions (galaxy_id, name, languages, tax) SELECT id, name || ' ' || r, ARRAY['en', 'ja', NULL, 'q"uote'], r / 7.0 FROM galaxies, generate_series(1, 4) r;
INSERT INTO clusters (region_id, name, warp_stability) SELECT id, name || ' cluster ' || c, random() FROM regions, generate_series(1, 10) c;
INSERT INTO sectors (cluster_id, kind, position, resources, discovered_at)
	SELECT 1 + s % 120, (enum_range(NULL::sector_kind))[1 + s % 5], ROW(s % 101 - 50, s % 37, -s % 53)::coordinates,
		jsonb_build_object('ore', s % 100, 'veins', jsonb_build_array(s, s * 1.5, NULL)), CASE WHEN s % 3 = 0 THEN timestamptz '2025-01-01' + s * interval '1 hour' END
	FROM generate_series(1, 12000) s;
INSERT INTO warp_tunnels SELECT s, 1 + (s * 7) % 12000, random()::real FROM generate_series(1, 12000) s WHERE s <> 1 + (s * 7) % 12000;
INSERT INTO users (email, display_name, status, past_statuses, preferences, created_at)
	SELECT 'Pilot' || u || '@example.org', CASE u % 5 WHEN 0 THEN '飛行士 ' || u WHEN 1 THEN 'Žofie ' || u WHEN 2 THEN 'قبطان ' || u WHEN 3 THEN '🚀 ' || u ELSE 'Pilot ' || u END,
		(enum_range(NULL::account_status))[1 + u % 4], CASE WHEN u % 4 = 0 THEN ARRAY['active', 'suspended']::account_status[] ELSE '{}' END,
		jsonb_build_object('theme', 'dark', 'volume', u % 11, 'tabs', E'a\tb\nc\\d'), timestamptz '2025-06-01' + u * interval '7 minutes'
	FROM generate_series(1, 4000) u;
UPDATE users SET referred_by = (SELECT min(id::text)::uuid FROM users) WHERE email LIKE '%7@%';
INSERT INTO admin_credentials SELECT id, digest(email, 'sha256'), created_at FROM users LIMIT 5;
INSERT INTO mfa_secrets SELECT id, gen_random_bytes(20) FROM users LIMIT 400;
INSERT INTO refresh_tokens (user_id, token_hash, expires_at) SELECT id, gen_random_bytes(32), 'infinity' FROM users;
INSERT INTO oauth_accounts SELECT 'github', row_number() OVER (), id FROM users LIMIT 900;
INSERT INTO login_attempts SELECT timestamptz '2026-01-01' + l * interval '3 seconds', ('10.0.' || l % 256 || '.' || l % 251)::inet, CASE WHEN l % 2 = 0 THEN '' END, l % 5 <> 0 FROM generate_series(1, 20000) l;
INSERT INTO login_attempts SELECT '2026-02-02', '::1', 'twin@example.org', true FROM generate_series(1, 2);
INSERT INTO players (user_id, nickname, credits, home_sector, reputation, stats)
	SELECT id, display_name, (random() * 1e9)::bigint, 1 + (random() * 11999)::int, (random() * 1e6)::numeric(20, 6), '{"kills": 0}' FROM users;
INSERT INTO ships (owner, type, name, cargo, modules, hull, sector)
	SELECT id, (enum_range(NULL::ship_type))[1 + n], 'Ship ' || n || ' of ' || nickname, jsonb_build_object('ore', n, 'fuel', 1.50), ARRAY['shield', 'drive ' || n], CASE n WHEN 1 THEN '-0'::real WHEN 2 THEN 'NaN' ELSE 0.1 END, 1 + n
	FROM players, generate_series(0, 4) n;
UPDATE players p SET current_ship = s.id FROM ships s WHERE s.owner = p.id AND s.type = 'light_freighter';
INSERT INTO teams (name, leader, founded) SELECT 'Team ' || t, (SELECT id FROM players OFFSET t LIMIT 1), date '2025-01-01' + t FROM generate_series(1, 200) t;
UPDATE players SET team_id = 1 + abs(hashtext(id::text)) % 200;
INSERT INTO planets (sector, name, population, habitability, citadel) SELECT 1 + (p * 3) % 12000, 'Planet ' || p, p * 123456789::bigint, p % 101, CASE WHEN p % 9 = 0 THEN '{"level": 3}'::jsonb END FROM generate_series(1, 6000) p;
INSERT INTO colonies SELECT id, ARRAY[id, NULL, 9223372036854775807], '2025-03-30 02:30:00+01' FROM planets WHERE id % 5 = 0;
INSERT INTO stations (sector, class, services, area) SELECT 1 + (s * 5) % 12000, s % 12, '["refuel", "repair"]', box(point(s, 0), point(0, s)) FROM generate_series(1, 1500) s;
INSERT INTO market_prices SELECT s.id, c, round((random() * 1000)::numeric, 2), 1.00, (random() * 10000)::int FROM stations s, unnest(enum_range(NULL::commodity)) c;
INSERT INTO market_history (station, commodity, price, quantity, at)
	SELECT 1 + m % 1500, (enum_range(NULL::commodity))[1 + m % 6], round((random() * 900)::numeric, 2), m % 500, timestamptz '2025-02-01' + m * interval '91 seconds' FROM generate_series(1, 40000) m;
INSERT INTO genesis_devices (owner, formed) SELECT (SELECT id FROM players LIMIT 1), tstzrange('2025-01-01'::timestamptz + g * interval '1 day', '2025-01-01'::timestamptz + (g + 1) * interval '1 day') FROM generate_series(1, 50) g;
INSERT INTO drones (ship, kind, orders) SELECT id, 'attack', '{"b": 1, "a": 2, "a": 3}' FROM ships WHERE hull > 0 LIMIT 8000;
INSERT INTO combat_logs (at, attacker, rounds, outcome) SELECT timestamptz '2026-03-01' + c * interval '1 second', p.ids[1 + c % 100], json_build_array(c, c % 3), 'draw' FROM generate_series(1, 5000) c, (SELECT array_agg(id) AS ids FROM players) p;
INSERT INTO messages (sender, reply_to, subject, body, sent_at)
	SELECT p.ids[1 + m % 50], CASE WHEN m > 1 AND m % 2 = 0 THEN m - 1 END, CASE m % 3 WHEN 0 THEN '' WHEN 1 THEN NULL ELSE 'Re' END, 'Body ' || repeat(chr(945 + m % 24), m % 60), timestamptz '2026-04-01' + m * interval '1 minute' FROM generate_series(1, 12000) m, (SELECT array_agg(id) AS ids FROM players) p;
INSERT INTO bounties (target, amount, paid) SELECT id, 500, '12.34' FROM players LIMIT 300;
INSERT INTO factions SELECT f, 'Faction ' || f, ARRAY[[f, 1], [f, 2]], NULLIF(f - 1, 0) FROM generate_series(1, 6) f;
INSERT INTO faction_standings SELECT id, f, (random() * 200 - 100)::int FROM players, generate_series(1, 6) f;
INSERT INTO faction_missions (faction, title, reward, opens) SELECT 1 + m % 6, 'Mission ' || m, '{"credits": 1e3}', make_interval(months => m % 14, hours => m) FROM generate_series(1, 300) m;
INSERT INTO achievements SELECT 'A' || a, a, decode(repeat(lpad(to_hex(a), 2, '0'), a), 'hex') FROM generate_series(1, 80) a;
INSERT INTO player_achievements SELECT id, 'A' || a, '2026-01-01' FROM players, generate_series(1, 5) a;
INSERT INTO events (kind, payload, at) SELECT 'tick', jsonb_build_object('n', e, 'tags', jsonb_build_array('t' || e % 97, 'u' || e % 31), 'ok', e % 2 = 0), timestamptz '2026-05-01' + e * interval '2 seconds' FROM generate_series(1, 40000) e;
INSERT INTO server_settings VALUES ('motd', '<p>Hello &amp; welcome</p>', 'lower(text)'), ('none', NULL, NULL);
INSERT INTO feature_flags VALUES ('warp', B'10101010', B'1', 0.1), ('drones', B'00000001', NULL, 1e-300);
INSERT INTO admin_action_logs (action, detail, at) SELECT 'login', '{}', timestamptz '2026-06-01' + l * interval '1 minute' FROM generate_series(1, 500) l;
INSERT INTO audit.changes (at, what) SELECT timestamptz '2025-06-01' + c * interval '1 hour', 'change ' || c FROM generate_series(1, 8000) c;
REFRESH MATERIALIZED VIEW market_summary;
ANALYZE;
