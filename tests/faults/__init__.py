"""The fault suite: real processes, seeded kills, and a checker that shares no code with Horae."""
