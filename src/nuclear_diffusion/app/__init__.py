"""A local page to look at clips, dehaze them and turn the knob."""
