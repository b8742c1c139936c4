"""Synthetic images that stand in for the real sets where no network is: `archive.write_phantom` writes them.

They are drawings, made to exercise a study from end to end; no clinical claim can rest on them.
"""
