"""Whether an explanation can be trusted: checks that need no masks, and no faith in the model's probabilities.

similarity: how alike two maps are · randomisation: maps of a model that forgets what it learned · stability: maps of
another class, of the mirrored and of the noisy image · concentration: how scattered a map is, how much lies on the
border · tokens: tokens whose norm breaks out. Maps that must be made anew come from an `explain` function the caller
gives, so that no method is known here.
"""
