"""Who may: tokens, browser sessions, JWTs, the application's own word, playback links, and how often."""
