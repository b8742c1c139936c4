"""From a raw folder to arrays: read, judge what enters and what belongs together, split, audit."""
