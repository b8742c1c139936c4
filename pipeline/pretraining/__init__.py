"""Pre-training: a backbone learns from many images before the study fine-tunes it. Read `pretrain` first.

pretrain     one model, from prepared sources to weights, receipt and card; STRATEGIES
supervised   recipe: the labels of all sets together
distilled    recipe: DeiT's token that learns from a convolutional teacher
dino         recipe: no labels, a teacher that is the student's own average
crops        DINO's views
sources      the images, fetched and prepared once for all models
corpus       several prepared sets as one list of images
recipe       what a strategy hands over to the training loop
probes       nearest neighbours and linear probe of frozen features
card         what users are told about the weights
"""
