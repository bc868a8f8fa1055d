-- needs: languages
-- The languages of the game. Those without a translation are not active.
INSERT INTO languages (code, name, native_name, direction, is_active, completion_percentage) VALUES
	('en', 'English', 'English', 'ltr', true, 100),
	('es', 'Spanish', 'Español', 'ltr', true, 0),
	('zh', 'Chinese (Simplified)', '简体中文', 'ltr', true, 0),
	('fr', 'French', 'Français', 'ltr', true, 0),
	('pt', 'Portuguese', 'Português', 'ltr', true, 0),
	('de', 'German', 'Deutsch', 'ltr', false, 0),
	('ja', 'Japanese', '日本語', 'ltr', false, 0),
	('ru', 'Russian', 'Русский', 'ltr', false, 0),
	('ar', 'Arabic', 'العربية', 'rtl', false, 0),
	('ko', 'Korean', '한국어', 'ltr', false, 0),
	('it', 'Italian', 'Italiano', 'ltr', false, 0),
	('nl', 'Dutch', 'Nederlands', 'ltr', false, 0)
ON CONFLICT (code) DO NOTHING;
