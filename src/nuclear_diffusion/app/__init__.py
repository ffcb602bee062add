"""A local page to look at clips, dehaze them and change the strength."""
