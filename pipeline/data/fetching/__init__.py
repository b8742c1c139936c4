"""Bring a set's images to data/raw, from wherever they are; nothing from outside is believed."""
