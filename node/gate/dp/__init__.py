"""The dp lane: answers with noise to questions that the release's cells can't answer exactly."""
