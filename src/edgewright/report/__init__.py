"""Terminal, HTML, JSON and JUnit views of a study."""
