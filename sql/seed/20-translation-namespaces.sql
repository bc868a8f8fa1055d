-- needs: translation_namespaces
-- The groups of translated texts, and the application that shows each.
INSERT INTO translation_namespaces (name, description, application, is_active) VALUES
	('common', 'Texts of every application', 'shared', true),
	('admin', 'The administrators'' pages', 'admin-ui', true),
	('game', 'The game itself', 'player-client', true),
	('auth', 'Logging in and signing up', 'shared', true),
	('ai', 'The assistant', 'shared', true),
	('marketing', 'The front page', 'player-client', true),
	('errors', 'Error messages', 'shared', true),
	('validation', 'What forms say about their fields', 'shared', true)
ON CONFLICT (name) DO NOTHING;
